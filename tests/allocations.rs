//! Training with canonical sums allocates nothing after its first updates; with other sums only the matrix library allocates. The
//! rows of an epoch reuse the memory of those of the last epoch.
#![allow(unsafe_code)]

mod oracle;

use harmonium::{Algorithm, Binarise, Dataset, Epochs, Monitor, Rbm, Settings, Trainer};
use oracle::{
    byte_rows, for_each_device, for_each_host_device, in_pool, is_canonical, random_bytes, random_values, shape,
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, with a count of the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // At the end of a thread its count may already be dropped.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged. Counting uses a thread-local integer without a destructor, so it
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The number of updates in an epoch of these tests.
const UPDATES: u64 = 10;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0u8; 100]))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn an_epoch_takes_the_place_of_the_last() {
    let bytes = Dataset::from_u8(random_bytes(200 * 130, 0.2, 1), 130).expect("rows");
    let numbers = Dataset::from_f32(random_values(200 * 130, 0.2, 1), 130).expect("rows");
    for (data, binarise) in [&bytes, &numbers].into_iter().flat_map(|data| {
        [Binarise::None, Binarise::Threshold, Binarise::Levels { low: 1, high: 255 }, Binarise::Sample]
            .map(|binarise| (data, binarise))
    }) {
        let found = in_pool(1, || {
            let mut epochs = Epochs::new(true, binarise, 1).expect("levels");
            [0, 1, 2].map(|epoch| allocations(|| _ = epochs.show(data, epoch).expect("an epoch")))
        });
        assert!(found[0] > 0 && found[1..] == [0, 0], "{binarise}: {found:?}");
    }
}

for_each_host_device! {
    // In a pool of one thread, on that thread: allocations of rayon for several threads are not the library's.
    fn an_update_allocates_nothing(device) {
        let (nv, nh, n) = (130, 97, 20);
        let bytes = random_bytes(200 * nv, 0.2, 1);
        for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 20 }, Algorithm::Pcd { n_chains: 7 }] {
            for monitor in [Monitor::None, Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood, Monitor::Reconstruction] {
                let found = in_pool(1, || {
                    let mut rbm = Rbm::new(shape(nv, nh), 1);
                    let settings = Settings { algorithm, k: 5, monitor, seed: 1, ..Settings::default() };
                    let mut trainer = Trainer::new(&device, rbm.shape(), settings).expect("trainer");
                    let mut lent = rbm.lend(&device).expect("lent");
                    let data = byte_rows(&bytes, nv);
                    let mut epoch = || {
                        for batch in 0..UPDATES as usize {
                            trainer.step(&mut lent, data.range(batch * n..batch * n + n), 0.1).expect("step");
                        }
                        trainer.take_report().expect("report");
                    };
                    (allocations(&mut epoch), allocations(&mut epoch))
                });
                // matrixmultiply allocates for each of its products: P, two for each of k = 5 steps, two for each of three visible
                // tiles in the gradient, one for a monitor.
                let allowed = if is_canonical(&device) { 0 } else { UPDATES * 18 };
                assert!(found.0 > found.1 && found.1 <= allowed, "{algorithm:?}, {monitor:?}: {found:?}");
            }
        }
    }
}
