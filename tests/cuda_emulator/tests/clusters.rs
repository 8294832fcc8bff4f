//! Clusters of blocks on a device of compute capability 9.0: exchanges, and faults.

mod common;

use common::{Device, emulated, grid};
use cudarc::driver::sys::CUfunction_attribute_enum as Attribute;
use cudarc::driver::sys::cudaError_enum as Code;
use cudarc::driver::{CudaContext, DevicePtrMut, DriverError, LaunchConfig, PushKernelArg};

const CAPABILITY: (&str, &str) = ("CAPABILITY", "90");

/// Orders in which correct kernels must give the same results, and a run without the race detector.
const ORDERS: [&[(&str, &str)]; 5] = [
    &[CAPABILITY],
    &[CAPABILITY, ("SEED", "1")],
    &[CAPABILITY, ("SEED", "77")],
    &[CAPABILITY, ("SEED", "5")],
    &[CAPABILITY, ("RACES", "0")],
];

/// Launches a kernel of the fixture with a buffer of `words` words and optionally a number; returns the buffer.
fn launch(kernel: &str, shape: LaunchConfig, words: usize, number: Option<u32>) -> Result<Vec<u32>, DriverError> {
    let device = Device::with_fixture("cluster");
    let stream = &device.stream;
    let mut out = stream.alloc_zeros::<u32>(words)?;
    let kernel = device.kernel(kernel);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&mut out);
    if let Some(number) = &number {
        launch.arg(number);
    }
    // SAFETY: the arguments are the kernel's.
    unsafe { launch.launch(shape) }?;
    stream.synchronize()?;
    stream.clone_dtoh(&out)
}

/// Runs a kernel in every order, and compares its output.
fn assert_output(test: &str, kernel: &str, shape: LaunchConfig, number: Option<u32>, expected: &[u32]) {
    for settings in ORDERS {
        emulated(test, settings, || {
            assert_eq!(launch(kernel, shape, expected.len(), number).as_deref(), Ok(expected));
        });
    }
}

#[test]
fn blocks_know_their_coordinates() {
    let shape = LaunchConfig { grid_dim: (4, 6, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    let expected: Vec<u32> = (0..24)
        .flat_map(|block| {
            let (x, y) = (block % 4, block / 4);
            [y % 3 * 2 + x % 2, 6, x / 2, y / 3, 2, 2, y % 3, 3]
        })
        .collect();
    assert_output("blocks_know_their_coordinates", "places", shape, None, &expected);
}

#[test]
fn blocks_read_each_other() {
    let expected: Vec<u32> = (0..16 * 64)
        .map(|i| {
            let (block, thread) = (i / 64, i % 64);
            let next = block / 8 * 8 + (block + 1) % 8;
            1000 * next + (thread ^ 1) + 1000 * block + thread
        })
        .collect();
    assert_output("blocks_read_each_other", "exchange", grid(16, 64, 0), None, &expected);
}

#[test]
fn blocks_write_to_each_other_between_split_barriers() {
    let rounds = 5;
    let expected: Vec<u32> = (0..8 * 64)
        .map(|i| {
            let (rank, thread) = (i / 64, i % 64);
            let (mut sum, mut own) = (0, thread ^ 33);
            for round in 0..rounds {
                own += round;
                // The writer of this block's word: to = (thread + from + round) % 8.
                let from = (rank + 64 - thread % 8 - round) % 8;
                sum += own + 100 * from + round;
            }
            sum
        })
        .collect();
    let test = "blocks_write_to_each_other_between_split_barriers";
    assert_output(test, "scatter", grid(8, 64, 0), Some(rounds), &expected);
}

#[test]
fn blocks_add_to_the_first_of_them() {
    let expected = [4 * (63 * 64 / 2) + 4 * 64 * 4; 3];
    assert_output("blocks_add_to_the_first_of_them", "totals", grid(12, 64, 0), None, &expected);
}

#[test]
fn blocks_exchange_through_global_memory() {
    let (threads, n) = (40, 8 * 40);
    let expected: Vec<u32> = (0..2 * n).map(|i| i / n * n + (i % n + threads + 1) % n).collect();
    assert_output("blocks_exchange_through_global_memory", "through_global", grid(16, threads, 0), None, &expected);
}

#[test]
fn large_clusters_must_be_requested() {
    for settings in ORDERS {
        emulated("large_clusters_must_be_requested", settings, || {
            let device = Device::with_fixture("cluster");
            let stream = &device.stream;
            let mut out = stream.alloc_zeros::<u32>(32 * 32).unwrap();
            let kernel = device.kernel("sixteen");
            let large = Attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
            let mut launch = || {
                let mut launch = stream.launch_builder(&kernel);
                // SAFETY: the arguments are the kernel's.
                unsafe { launch.arg(&mut out).launch(grid(32, 32, 0)) }.map(|_| ())
            };
            assert_eq!(launch(), Err(DriverError(Code::CUDA_ERROR_INVALID_CLUSTER_SIZE)));
            assert_eq!(kernel.get_attribute(large), Ok(0));
            kernel.set_attribute(large, 1).unwrap();
            assert_eq!(kernel.get_attribute(large), Ok(1));
            assert_eq!(launch(), Ok(()));
            let expected: Vec<u32> = (0..32 * 32).map(|i| 15 - i / 32 % 16).collect();
            assert_eq!(stream.clone_dtoh(&out).unwrap(), expected);
            assert_eq!(kernel.get_attribute(Attribute::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH), Ok(16));
            assert_eq!(kernel.get_attribute(Attribute::CU_FUNC_ATTRIBUTE_BINARY_VERSION), Ok(90));
        });
    }
}

#[test]
fn a_grid_is_a_multiple_of_its_cluster() {
    emulated("a_grid_is_a_multiple_of_its_cluster", &[CAPABILITY], || {
        let invalid = Err(DriverError(Code::CUDA_ERROR_INVALID_CLUSTER_SIZE));
        assert_eq!(launch("exchange", grid(12, 64, 0), 12 * 64, None), invalid);
        assert_eq!(launch("exchange", grid(4, 64, 0), 4 * 64, None), invalid);
        assert!(launch("exchange", grid(8, 64, 0), 8 * 64, None).is_ok());
    });
}

/// The case for which this process was started.
fn selected<T: Copy>(cases: &[T], capability: impl Fn(&T) -> &str) -> T {
    let found = std::env::var("HARMONIUM_EMULATOR_CAPABILITY").expect("the capability is set");
    *cases.iter().find(|case| capability(case) == found).expect("it is one of the cases")
}

#[test]
fn older_devices_refuse_the_module() {
    let load = |target: &str| {
        let context = CudaContext::new(0).unwrap();
        let text = format!(".version 8.0\n.target {target}\n.address_size 64\n.visible .entry k() {{ ret; }}");
        context.load_module(cudarc::nvrtc::Ptx::from_src(text)).map(|_| ()).map_err(|e| e.0)
    };
    let refused = Err(Code::CUDA_ERROR_NO_BINARY_FOR_GPU);
    const CASES: [(&str, &[&str], &[&str]); 3] = [
        ("86", &["sm_70", "sm_86"], &["sm_89", "sm_90", "sm_90a"]),
        ("90", &["sm_70", "sm_86", "sm_90", "sm_90a"], &["sm_100", "sm_120"]),
        ("100", &["sm_90"], &["sm_90a"]),
    ];
    for (capability, ..) in CASES {
        emulated("older_devices_refuse_the_module", &[("CAPABILITY", capability)], || {
            let (capability, good, bad) = selected(&CASES, |case| case.0);
            good.iter().for_each(|target| assert_eq!(load(target), Ok(()), "{target} on {capability}"));
            bad.iter().for_each(|target| assert_eq!(load(target), refused, "{target} on {capability}"));
        });
    }
}

#[test]
fn shared_memory_by_capability() {
    use cudarc::driver::sys::CUdevice_attribute as Of;
    const CASES: [(&str, i32, i32); 3] = [("80", 163, 0), ("86", 99, 0), ("90", 227, 1)];
    for (capability, ..) in CASES {
        emulated("shared_memory_by_capability", &[("CAPABILITY", capability)], || {
            let (_, most, clusters) = selected(&CASES, |case| case.0);
            let device = Device::with_fixture("block");
            let attribute = |which| device.context.attribute(which).unwrap();
            assert_eq!(attribute(Of::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), most << 10);
            assert_eq!(attribute(Of::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH), clusters);
            let kernel = device.kernel("prefix");
            let limit = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let invalid = DriverError(Code::CUDA_ERROR_INVALID_VALUE);
            assert_eq!(kernel.set_attribute(limit, (most << 10) + 4), Err(invalid));
            assert_eq!(kernel.set_attribute(limit, most << 10), Ok(()));
            assert_eq!(kernel.get_attribute(limit), Ok(most << 10));
            // The kernel's own declaration counts too.
            let sums = device.kernel("row_sums");
            let own = sums.get_attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES).unwrap();
            assert!(own > 0);
            assert_eq!(sums.set_attribute(limit, (most << 10) - own + 4), Err(invalid));
            assert_eq!(sums.set_attribute(limit, (most << 10) - own), Ok(()));
            let mut data = device.stream.clone_htod(&[1u32; 32]).unwrap();
            let mut launch = device.stream.launch_builder(&kernel);
            // SAFETY: the arguments are the kernel's.
            unsafe { launch.arg(&mut data).launch(grid(1, 32, (most as u32) << 10)) }.unwrap();
            device.stream.synchronize().unwrap();
        });
    }
}

/// Each block writes its rank and the size of its cluster.
const RANKS: &str = ".version 8.0
.target sm_90
.address_size 64
.visible .entry ranks(.param .u64 out) .explicitcluster {
    .reg .b32 %r<4>; .reg .b64 %d<3>;
    ld.param.u64 %d1, [out]; mov.u32 %r1, %ctaid.x; mul.wide.u32 %d2, %r1, 4; add.u64 %d1, %d1, %d2;
    mov.u32 %r2, %cluster_ctarank; mov.u32 %r3, %cluster_nctarank; mad.lo.u32 %r2, %r3, 100, %r2;
    st.global.u32 [%d1], %r2; ret;
}";

#[test]
fn clusters_specified_at_the_launch() {
    use cudarc::driver::result::module;
    use cudarc::driver::sys;
    emulated("clusters_specified_at_the_launch", &[CAPABILITY], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let mut out = stream.alloc_zeros::<u32>(8).unwrap();
        let text = std::ffi::CString::new(RANKS).unwrap();
        // SAFETY: the text ends in a zero byte, and the module stays loaded.
        let function =
            unsafe { module::get_function(module::load_data(text.as_ptr().cast()).unwrap(), c"ranks".to_owned()) };
        let function = function.unwrap();
        let mut launch = |size: Option<u32>| {
            // SAFETY: zeros are an attribute that is ignored.
            let mut attribute = unsafe { std::mem::zeroed::<sys::CUlaunchAttribute>() };
            attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
            attribute.value.clusterDim.x = size.unwrap_or(0);
            attribute.value.clusterDim.y = 1;
            attribute.value.clusterDim.z = 1;
            let config = sys::CUlaunchConfig {
                gridDimX: 8,
                gridDimY: 1,
                gridDimZ: 1,
                blockDimX: 1,
                blockDimY: 1,
                blockDimZ: 1,
                sharedMemBytes: 0,
                hStream: stream.cu_stream(),
                attrs: &mut attribute,
                numAttrs: u32::from(size.is_some()),
            };
            let (address, guard) = out.device_ptr_mut(&stream);
            let (mut clusters, mut largest) = (0, 0);
            // SAFETY: the configuration has as many attributes as it states, and the argument is the kernel's.
            let codes = unsafe {
                let mut argument = (&raw const address).cast_mut().cast();
                let fits = sys::cuOccupancyMaxActiveClusters(&mut clusters, function, &config);
                assert_eq!(
                    sys::cuOccupancyMaxPotentialClusterSize(&mut largest, function, &config),
                    Code::CUDA_SUCCESS
                );
                assert_eq!(largest, 8);
                [fits, sys::cuLaunchKernelEx(&config, function, &mut argument, std::ptr::null_mut())]
            };
            drop(guard);
            (codes, clusters, stream.clone_dtoh(&out).unwrap())
        };
        let (good, invalid) = (Code::CUDA_SUCCESS, Code::CUDA_ERROR_INVALID_CLUSTER_SIZE);
        assert_eq!(launch(None).0, [good, invalid], "the kernel requires clusters");
        assert_eq!(launch(Some(0)).0, [invalid, invalid]);
        assert_eq!(launch(Some(3)).0, [good, invalid]);
        for size in [2, 8] {
            let (codes, clusters, ranks) = launch(Some(size));
            assert_eq!((codes, clusters), ([good; 2], 16 * 32 / size as i32));
            assert_eq!(ranks, (0..8).map(|block| 100 * size + block % size).collect::<Vec<_>>());
        }
    });
}

/// Four numbers for each of 32 threads.
fn numbers() -> Vec<f32> {
    (0..128).map(|i| (i * 37 % 101) as f32).collect()
}

#[test]
fn recent_loads_and_stores() {
    for settings in ORDERS {
        emulated("recent_loads_and_stores", settings, || {
            let device = Device::with_fixture("cluster");
            let (stream, input) = (&device.stream, numbers());
            let from = stream.clone_htod(&input).unwrap();
            let mut out = stream.alloc_zeros::<f32>(128).unwrap();
            let kernel = device.kernel("recent");
            let mut launch = stream.launch_builder(&kernel);
            // SAFETY: the arguments are the kernel's.
            unsafe { launch.arg(&mut out).arg(&from).launch(grid(1, 32, 0)) }.unwrap();
            let expected = (0..32).flat_map(|i| {
                let (a, next) = (&input[4 * i..], &input[4 * (i ^ 1)..]);
                [a[2] + a[0], a[3] + a[1], next[2], next[3]]
            });
            assert_eq!(stream.clone_dtoh(&out).unwrap(), expected.collect::<Vec<_>>());
        });
    }
}

#[test]
fn asynchronous_copies_arrive_when_they_are_waited_for() {
    for settings in ORDERS {
        emulated("asynchronous_copies_arrive_when_they_are_waited_for", settings, || {
            let device = Device::with_fixture("cluster");
            let (stream, input) = (&device.stream, numbers());
            let from = stream.clone_htod(&input).unwrap();
            let mut out = stream.alloc_zeros::<f32>(32).unwrap();
            let kernel = device.kernel("copies");
            for early in [0u32, 1] {
                let mut launch = stream.launch_builder(&kernel);
                // SAFETY: the arguments are the kernel's.
                unsafe { launch.arg(&mut out).arg(&from).arg(&early).launch(grid(1, 32, 0)) }.unwrap();
                let found = stream.clone_dtoh(&out).unwrap();
                if early == 1 {
                    assert!(found.iter().all(|x| x.is_nan()), "shared memory is not a number before the copy arrives");
                    continue;
                }
                let expected = input.chunks(4).map(|x| x.iter().sum::<f32>() + 100.0 * x[3]);
                assert_eq!(found, expected.collect::<Vec<_>>());
            }
        });
    }
}

#[test]
fn memory_of_a_block_that_has_ended() {
    let stderr = emulated("memory_of_a_block_that_has_ended", &[CAPABILITY, ("RACES", "0")], || {
        let failed = Some(DriverError(Code::CUDA_ERROR_LAUNCH_FAILED));
        assert_eq!(launch("leaves_early", grid(8, 32, 0), 256, Some(0)).err(), failed);
    });
    assert!(stderr.contains("rank 0, whose shared memory this is, has ended"), "{stderr}");
}

/// A faulty kernel: its error code, and words of its message, in every order.
fn caught(test: &str, kernel: &str, shape: LaunchConfig, number: Option<u32>, code: Code, words: &[&str]) {
    for settings in ORDERS.iter().filter(|settings| !settings.contains(&("RACES", "0"))) {
        let stderr = emulated(test, settings, || {
            assert_eq!(launch(kernel, shape, 1024, number).err(), Some(DriverError(code)));
        });
        for word in words.iter().copied().chain([&*format!("kernel {kernel}")]) {
            assert!(stderr.contains(word), "{word:?} is missing in: {stderr}");
        }
    }
}

macro_rules! faults {
    ($($name:ident: $kernel:literal, $blocks:literal, $number:expr, $code:ident, [$($word:literal),*];)*) => {$(
        #[test]
        fn $name() {
            caught(stringify!($name), $kernel, grid($blocks, 32, 0), $number, Code::$code, &[$($word),*]);
        }
    )*};
}

faults! {
    a_dropped_barrier: "no_cluster_barrier", 8, None, CUDA_ERROR_LAUNCH_FAILED, ["race", "of block rank", "of its cluster"];
    a_relaxed_arrival: "relaxed_arrival", 8, None, CUDA_ERROR_LAUNCH_FAILED, ["race", "of block rank"];
    a_write_after_the_arrival: "late_write", 8, None, CUDA_ERROR_LAUNCH_FAILED, ["race", "Write by thread"];
    a_read_before_the_wait: "early_read", 8, None, CUDA_ERROR_LAUNCH_FAILED, ["race", "shared"];
    two_blocks_that_write_to_a_third: "two_writers", 16, None, CUDA_ERROR_LAUNCH_FAILED, ["race", "of block rank 1"];
    two_blocks_that_write_to_global_memory: "global_collision", 8, None, CUDA_ERROR_LAUNCH_FAILED, ["race", "global"];
    a_block_that_has_not_begun: "too_early", 8, None, CUDA_ERROR_LAUNCH_FAILED, ["may not have begun"];
    a_rank_that_is_not_there: "no_such_rank", 2, None, CUDA_ERROR_ILLEGAL_ADDRESS, ["outside"];
    an_address_of_another_block_as_of_its_own: "wrong_space", 2, None, CUDA_ERROR_ILLEGAL_ADDRESS, ["ld.shared.u32"];
    two_arrivals: "arrives_twice", 2, None, CUDA_ERROR_LAUNCH_FAILED, ["a second time"];
    a_wait_without_arrival: "waits_alone", 2, None, CUDA_ERROR_LAUNCH_FAILED, ["without having arrived", "rank 0"];
    an_aligned_barrier_of_some_lanes: "torn", 2, None, CUDA_ERROR_LAUNCH_FAILED, ["aligned"];
    a_block_that_never_comes: "one_never_comes", 2, None, CUDA_ERROR_LAUNCH_FAILED, ["never arrive"];
    an_early_end_of_the_first: "leaves_early", 8, Some(0), CUDA_ERROR_LAUNCH_FAILED, ["rank 0", "ended"];
    an_early_end_of_the_last: "leaves_early", 8, Some(7), CUDA_ERROR_LAUNCH_FAILED, ["rank 7", "ended"];
}
