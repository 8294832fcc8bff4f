//! Graphs, cuBLAS, pinned memory, and a kernel of realistic size.

mod common;

use common::{Device, emulated, grid};
use cudarc::cublas::{
    CudaBlas, Gemm, GemmConfig, StridedBatchedConfig,
    sys::{cublasMath_t as Math, cublasOperation_t as Op, cublasSetMathMode},
};
use cudarc::driver::sys::{
    CUgraphInstantiate_flags as Flags, CUstreamCaptureMode as Mode, CUstreamCaptureStatus as Status,
    cudaError_enum as Code,
};
use cudarc::driver::{CudaContext, CudaGraph, CudaSlice, CudaStream, DriverError, PushKernelArg};
use std::sync::Arc;

#[test]
fn graphs_replay_with_frozen_scalars() {
    emulated("graphs_replay_with_frozen_scalars", &[], || {
        let device = Device::with_fixture("block");
        let stream = &device.stream;
        let mut sum = stream.alloc_zeros::<f32>(1).unwrap();
        let mut copy = stream.alloc_zeros::<f32>(1).unwrap();
        let mut highest = stream.alloc_zeros::<u32>(1).unwrap();
        let mut total = stream.alloc_zeros::<u64>(1).unwrap();
        let kernel = device.kernel("atomics");
        let mut n = 10u32;
        stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        stream.memset_zeros(&mut highest).unwrap();
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut sum).arg(&mut highest).arg(&mut total).arg(&n);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.launch(grid(1, 32, 0)) }.unwrap();
        stream.memcpy_dtod(&sum, &mut copy).unwrap();
        let graph = stream.end_capture(Flags(0)).unwrap().expect("a graph was captured");
        n += 1;
        assert_eq!(stream.clone_dtoh(&sum).unwrap(), [0.0], "nothing runs while it is captured");
        graph.upload().unwrap();
        for i in 1..=3 {
            graph.launch().unwrap();
            assert_eq!(stream.clone_dtoh(&copy).unwrap(), [5.0 * i as f32]);
            assert_eq!(stream.clone_dtoh(&highest).unwrap(), [9]);
        }
        assert_eq!((stream.clone_dtoh(&total).unwrap(), n), (vec![3 * 45], 11));
    });
}

#[test]
fn waiting_invalidates_a_capture() {
    emulated("waiting_invalidates_a_capture", &[], || {
        let device = Device::with_fixture("block");
        let stream = &device.stream;
        let mode = Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).unwrap();
        let unsupported = DriverError(Code::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        assert_eq!(stream.synchronize(), Err(unsupported));
        let spoilt = DriverError(Code::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        assert_eq!(stream.end_capture(Flags(0)).err(), Some(spoilt));
        assert_eq!(device.context.default_stream().begin_capture(mode), Err(unsupported));
        let state = DriverError(Code::CUDA_ERROR_ILLEGAL_STATE);
        assert_eq!(stream.end_capture(Flags(0)).err(), Some(state));
    });
}

#[test]
fn products_are_column_major() {
    emulated("products_are_column_major", &[], || {
        let device = Device::with_fixture("block");
        let stream = &device.stream;
        let blas = CudaBlas::new(stream.clone()).unwrap();
        let (m, n, k) = (3usize, 4usize, 5usize);
        let number = |i: usize| ((i * 7 + 3) % 11) as f32 - 5.0;
        let a: Vec<f32> = (0..2 * m * k).map(number).collect();
        let b: Vec<f32> = (0..2 * k * n).map(|i| number(i + 2)).collect();
        let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
        for (op_a, op_b, beta) in [
            (Op::CUBLAS_OP_N, Op::CUBLAS_OP_N, 0.0),
            (Op::CUBLAS_OP_T, Op::CUBLAS_OP_N, 0.5),
            (Op::CUBLAS_OP_N, Op::CUBLAS_OP_T, 1.0),
        ] {
            let (ta, tb) = (op_a == Op::CUBLAS_OP_T, op_b == Op::CUBLAS_OP_T);
            let config = GemmConfig {
                transa: op_a,
                transb: op_b,
                m: m as i32,
                n: n as i32,
                k: k as i32,
                alpha: 2.0f32,
                lda: if ta { k } else { m } as i32,
                ldb: if tb { n } else { k } as i32,
                beta,
                ldc: m as i32,
            };
            let expected = |batch: usize, old: f32| {
                let (a, b) = (&a[batch * m * k..], &b[batch * k * n..]);
                let mut out = Vec::new();
                for (col, row) in (0..n).flat_map(|col| (0..m).map(move |row| (col, row))) {
                    let left = |l: usize| if ta { a[l + row * k] } else { a[row + l * m] };
                    let right = |l: usize| if tb { b[col + l * n] } else { b[l + col * k] };
                    let sum: f32 = (0..k).map(|l| left(l) * right(l)).sum();
                    out.push(2.0 * sum + beta * old);
                }
                out
            };
            // New memory is NaN: with beta = 0 it must not be read.
            // SAFETY: it is written before it is read.
            let mut c = unsafe { stream.alloc::<f32>(m * n) }.unwrap();
            if beta != 0.0 {
                c = stream.clone_htod(&vec![3.0; m * n]).unwrap();
            }
            // SAFETY: the shapes are those of the buffers.
            unsafe { blas.gemm(config, &da, &db, &mut c) }.unwrap();
            assert_eq!(stream.clone_dtoh(&c).unwrap(), expected(0, 3.0));

            let mut c = stream.clone_htod(&vec![3.0; 2 * m * n]).unwrap();
            let batched = StridedBatchedConfig {
                gemm: config,
                batch_size: 2,
                stride_a: (m * k) as i64,
                stride_b: (k * n) as i64,
                stride_c: (m * n) as i64,
            };
            // SAFETY: the shapes are those of the buffers.
            unsafe { blas.gemm_strided_batched(batched, &da, &db, &mut c) }.unwrap();
            let both = [expected(0, 3.0), expected(1, 3.0)].concat();
            assert_eq!(stream.clone_dtoh(&c).unwrap(), both);
        }
    });
}

/// The product of a row and a column.
fn dot(stream: &Arc<CudaStream>, blas: &CudaBlas, a: &[f32], b: &[f32]) -> f32 {
    let k = a.len() as i32;
    let (transa, transb) = (Op::CUBLAS_OP_N, Op::CUBLAS_OP_N);
    let config = GemmConfig { transa, transb, m: 1, n: 1, k, alpha: 1.0, lda: 1, ldb: k, beta: 0.0, ldc: 1 };
    let (a, b) = (stream.clone_htod(a).unwrap(), stream.clone_htod(b).unwrap());
    let mut c = stream.alloc_zeros::<f32>(1).unwrap();
    // SAFETY: the shapes are those of the buffers.
    unsafe { blas.gemm(config, &a, &b, &mut c) }.unwrap();
    stream.clone_dtoh(&c).unwrap()[0]
}

#[test]
fn tf32_rounds_the_factors_on_request() {
    emulated("tf32_rounds_the_factors_on_request", &[], || {
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let blas = CudaBlas::new(stream.clone()).unwrap();
        let set = |mode| {
            // SAFETY: the handle is alive.
            unsafe { cublasSetMathMode(*blas.handle(), mode) }.result().unwrap();
        };
        let step = 2f32.powi(-10);
        for (x, rounded) in [
            (1.0 + step, 1.0 + step),
            (1.0 + 0.5 * step, 1.0),
            (1.0 + 0.75 * step, 1.0 + step),
            (-1.0 - 1.5 * step, -1.0 - 2.0 * step),
            (2.0 - 0.25 * step, 2.0),
        ] {
            set(Math::CUBLAS_DEFAULT_MATH);
            assert_eq!(dot(&stream, &blas, &[x], &[1.0]), x);
            set(Math::CUBLAS_TF32_TENSOR_OP_MATH);
            assert_eq!(dot(&stream, &blas, &[x], &[1.0]), rounded);
            assert_eq!(dot(&stream, &blas, &[1.0], &[x]), rounded);
        }
    });
}

#[test]
fn a_seed_chooses_the_order_of_sums() {
    emulated("a_seed_chooses_the_order_of_sums", &[("APPROX_SEED", "1")], || {
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let blas = CudaBlas::new(stream.clone()).unwrap();
        let sums: Vec<bool> = (20..30)
            .map(|k| {
                let a: Vec<f32> = (0..k).map(|i| 1.0 / (i as f32 + 3.0)).collect();
                let ascending = a.iter().fold(0f32, |sum, x| x.mul_add(*x, sum));
                let found = dot(&stream, &blas, &a, &a);
                assert_eq!(found, dot(&stream, &blas, &a, &a), "the same order each time");
                assert!((found - ascending).abs() < 1e-6, "{found} {ascending}");
                found == ascending
            })
            .collect();
        assert!(sums.contains(&false), "some order differs");
    });
}

#[test]
fn streams_wait_for_each_other() {
    emulated("streams_wait_for_each_other", &[], || {
        let context = CudaContext::new(0).unwrap();
        let first = context.new_stream().unwrap();
        let data = first.clone_htod(&[1u8, 2, 3]).unwrap();
        let second = first.fork().unwrap();
        let event = first.record_event(None).unwrap();
        second.wait(&event).unwrap();
        event.synchronize().unwrap();
        assert!(event.is_complete());
        assert_eq!(second.clone_dtoh(&data).unwrap(), [1, 2, 3]);
        drop(data);
        context.synchronize().unwrap();
    });
}

#[test]
fn waiting_for_uncaptured_work_invalidates_a_capture() {
    emulated("waiting_for_uncaptured_work_invalidates_a_capture", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let event = stream.record_event(None).unwrap();
        stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        let isolated = DriverError(Code::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
        assert_eq!(stream.wait(&event), Err(isolated));
    });
}

/// A graph, its buffers, and the streams that recorded it.
type Forked = (CudaGraph, [CudaSlice<u32>; 3], [Arc<CudaStream>; 2]);

/// Records a fork and optionally a join, and returns the result of ending the capture.
fn forked(join: bool) -> Result<Forked, DriverError> {
    let context = CudaContext::new(0).unwrap();
    // SAFETY: the events here state the dependencies.
    unsafe { context.disable_event_tracking() };
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut slices = [1, 2, 3].map(|n| first.clone_htod(&[n; 4]).unwrap());
    let [a, b, c] = &mut slices;
    first.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    first.memset_zeros(a).unwrap();
    second.wait(&first.record_event(None).unwrap()).unwrap();
    assert_eq!(second.capture_status(), Ok(Status::CU_STREAM_CAPTURE_STATUS_ACTIVE));
    // Both branches need the first node; they do not depend on each other.
    second.memcpy_dtod(&*a, b).unwrap();
    first.memcpy_dtod(&*a, c).unwrap();
    if join {
        first.wait(&second.record_event(None).unwrap()).unwrap();
        first.memset_zeros(c).unwrap();
    }
    let graph = first.end_capture(Flags(0))?.expect("a graph was captured");
    assert_eq!(second.capture_status(), Ok(Status::CU_STREAM_CAPTURE_STATUS_NONE));
    Ok((graph, slices, [first, second]))
}

#[test]
fn a_capture_forks_and_joins() {
    for settings in [&[][..], &[("SEED", "1")], &[("SEED", "2")], &[("SEED", "3")]] {
        emulated("a_capture_forks_and_joins", settings, || {
            let (graph, [a, b, c], [first, second]) = forked(true).unwrap();
            assert_eq!(second.clone_dtoh(&b).unwrap(), [2; 4], "nothing runs while it is captured");
            for _ in 0..5 {
                graph.launch().unwrap();
                for slice in [&a, &b, &c] {
                    assert_eq!(first.clone_dtoh(slice).unwrap(), [0; 4]);
                }
            }
        });
    }
}

#[test]
fn a_fork_must_be_joined() {
    emulated("a_fork_must_be_joined", &[], || {
        assert_eq!(forked(false).err(), Some(DriverError(Code::CUDA_ERROR_STREAM_CAPTURE_UNJOINED)));
    });
}

/// Of two branches one lacks its wait for the other: whether that is noticed.
#[test]
fn a_seed_shows_that_a_branch_does_not_wait() {
    for settings in [&[][..], &[("SEED", "1")], &[("SEED", "2")]] {
        emulated("a_seed_shows_that_a_branch_does_not_wait", settings, || {
            let context = CudaContext::new(0).unwrap();
            // SAFETY: the events here state the dependencies, except the missing one.
            unsafe { context.disable_event_tracking() };
            let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
            let source = first.clone_htod(&[7u32; 4]).unwrap();
            let (mut between, mut last) = (first.clone_htod(&[0; 4]).unwrap(), first.clone_htod(&[0; 4]).unwrap());
            first.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
            second.wait(&first.record_event(None).unwrap()).unwrap();
            first.memcpy_dtod(&source, &mut between).unwrap();
            second.memcpy_dtod(&between, &mut last).unwrap();
            first.wait(&second.record_event(None).unwrap()).unwrap();
            let graph = first.end_capture(Flags(0)).unwrap().expect("a graph was captured");
            let found: Vec<u32> = (0..20)
                .map(|_| {
                    first.memset_zeros(&mut between).unwrap();
                    graph.launch().unwrap();
                    first.clone_dtoh(&last).unwrap()[0]
                })
                .collect();
            // In the recorded order the mistake does not show.
            let seeded = std::env::var_os("HARMONIUM_EMULATOR_SEED").is_some();
            assert_eq!(found.contains(&0), seeded, "{found:?}");
            assert!(found.contains(&7), "{found:?}");
        });
    }
}

#[test]
fn invalid_captures() {
    emulated("invalid_captures", &[], || {
        let context = CudaContext::new(0).unwrap();
        let mode = Mode::CU_STREAM_CAPTURE_MODE_RELAXED;
        let error = |code| Some(DriverError(code));
        let spoilt = error(Code::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        // Two captures cannot become one.
        first.begin_capture(mode).unwrap();
        second.begin_capture(mode).unwrap();
        let event = first.record_event(None).unwrap();
        assert_eq!(event.synchronize().err(), error(Code::CUDA_ERROR_CAPTURED_EVENT));
        assert_eq!(second.wait(&event).err(), error(Code::CUDA_ERROR_STREAM_CAPTURE_MERGE));
        assert_eq!(first.end_capture(Flags(0)).err(), spoilt);
        assert_eq!(second.end_capture(Flags(0)).err(), spoilt);
        assert_eq!(event.synchronize(), Ok(()));
        // A capture ends in the stream in which it began.
        first.begin_capture(mode).unwrap();
        second.wait(&first.record_event(None).unwrap()).unwrap();
        assert_eq!(second.end_capture(Flags(0)).err(), error(Code::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED));
        assert_eq!(first.end_capture(Flags(0)).err(), spoilt);
        // The default stream cannot be captured.
        first.begin_capture(mode).unwrap();
        let event = first.record_event(None).unwrap();
        let unsupported = error(Code::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        assert_eq!(context.default_stream().wait(&event).err(), unsupported);
        assert_eq!(first.end_capture(Flags(0)).err(), spoilt);
    });
}

#[test]
fn pinned_memory_is_copied() {
    emulated("pinned_memory_is_copied", &[], || {
        let device = Device::with_fixture("block");
        let stream = &device.stream;
        // SAFETY: it is filled before it is read.
        let mut host = unsafe { device.context.alloc_pinned_with_flags::<u32>(100, 0) }.unwrap();
        host.as_mut_slice().unwrap().copy_from_slice(&(0..100).collect::<Vec<u32>>());
        let data = stream.clone_htod(&host).unwrap();
        host.as_mut_slice().unwrap().fill(0);
        stream.memcpy_dtoh(&data, &mut host).unwrap();
        assert_eq!(host.as_slice().unwrap(), (0..100).collect::<Vec<u32>>());
    });
}

#[test]
fn a_memory_pool_keeps_its_attributes() {
    use cudarc::driver::sys::{self, CUmemPool_attribute_enum as Attribute};
    emulated("a_memory_pool_keeps_its_attributes", &[], || {
        let device = Device::with_fixture("block");
        let mut pool = std::ptr::null_mut();
        let get = |pool, attribute| {
            let mut value = u64::MAX;
            // SAFETY: the queried attributes have 64 bits.
            let code = unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()) };
            (code, value)
        };
        let (good, invalid) = (Code::CUDA_SUCCESS, Code::CUDA_ERROR_INVALID_VALUE);
        // SAFETY: the target has the size of a handle.
        unsafe {
            assert_eq!(sys::cuDeviceGetDefaultMemPool(&raw mut pool, 1), Code::CUDA_ERROR_INVALID_DEVICE);
            assert_eq!(sys::cuDeviceGetDefaultMemPool(&raw mut pool, device.context.cu_device()), good);
        }
        let threshold = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        assert_eq!(get(pool, threshold), (good, 0));
        let mut kept = 1u64 << 30;
        let mut set = |pool, attribute| {
            // SAFETY: the attributes that can be set have at most 64 bits.
            unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut kept).cast()) }
        };
        assert_eq!(set(pool, threshold), good);
        assert_eq!(set(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT), invalid);
        assert_eq!(set(std::ptr::null_mut(), threshold), invalid);
        assert_eq!(get(pool, threshold), (good, 1 << 30));
        assert_eq!(get(std::ptr::null_mut(), threshold).0, invalid);
        let used = || get(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT).1;
        let before = used();
        let data = device.stream.alloc_zeros::<u8>(1000).unwrap();
        assert_eq!(used(), before + 1000);
        drop(data);
        assert_eq!(used(), before);
    });
}

#[test]
fn new_memory_is_not_a_number() {
    emulated("new_memory_is_not_a_number", &[], || {
        let device = Device::with_fixture("block");
        // SAFETY: every bit pattern is a valid f32.
        let data = unsafe { device.stream.alloc::<f32>(10) }.unwrap();
        assert!(device.stream.clone_dtoh(&data).unwrap().iter().all(|x| x.is_nan()));
    });
}

fn chain(test: &str, settings: &[(&str, &str)], chains: usize) -> String {
    emulated(test, settings, || {
        let device = Device::with_fixture("chain");
        let stream = &device.stream;
        let (n_visible, n_hidden, seed) = (784usize, 500usize, 99u64);
        let weights: Vec<f32> = (0..n_visible * n_hidden).map(|i| (i % 17) as f32 / 64.0 - 0.125).collect();
        let visible: Vec<u8> = (0..chains * n_visible).map(|i| u8::from(i % 5 == 0)).collect();
        let bias: Vec<f32> = (0..n_hidden).map(|j| j as f32 / 500.0 - 0.5).collect();
        let mut hidden = stream.alloc_zeros::<u8>(chains * n_hidden).unwrap();
        let (v, w) = (stream.clone_htod(&visible).unwrap(), stream.clone_htod(&weights).unwrap());
        let b = stream.clone_htod(&bias).unwrap();
        let kernel = device.kernel("hidden_given_visible");
        let mut launch = stream.launch_builder(&kernel);
        let (nv, nh) = (n_visible as u32, n_hidden as u32);
        launch.arg(&mut hidden).arg(&v).arg(&w).arg(&b).arg(&nv).arg(&nh).arg(&seed);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.launch(grid(chains as u32, 512, 4 * nv)) }.unwrap();
        let hidden = stream.clone_dtoh(&hidden).unwrap();
        for (c, row) in hidden.chunks(n_hidden).enumerate() {
            for (j, &h) in row.iter().enumerate() {
                let on = (0..n_visible).filter(|i| visible[c * n_visible + i] != 0);
                let sum = on.fold(0f32, |sum, i| sum + weights[i * n_hidden + j]) + bias[j];
                let s = (seed + (c * n_hidden + j) as u64)
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let draw = ((((s >> 18) ^ s) >> 27) as u32).rotate_right((s >> 59) as u32);
                let fires = (draw >> 8) as f32 * 5.960_464_5e-8 < 0.5 + 0.25 * sum;
                assert_eq!(h, u8::from(fires), "chain {c}, unit {j}");
            }
        }
    })
}

#[test]
fn a_gibbs_step_of_the_tutorials_size() {
    let stats = chain("a_gibbs_step_of_the_tutorials_size", &[("STATS", "1"), ("SEED", "5")], 3);
    assert!(stats.contains("hidden_given_visible"), "{stats}");
}

/// Records two products of one handle, sequentially or in parallel.
fn products(parallel: bool) -> Result<Option<CudaGraph>, DriverError> {
    let context = CudaContext::new(0).unwrap();
    // SAFETY: the events here state the dependencies.
    unsafe { context.disable_event_tracking() };
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut blas = CudaBlas::new(first.clone()).unwrap();
    let factor = first.clone_htod(&[2f32]).unwrap();
    let mut results = [first.alloc_zeros::<f32>(1).unwrap(), first.alloc_zeros::<f32>(1).unwrap()];
    let (transa, transb) = (Op::CUBLAS_OP_N, Op::CUBLAS_OP_N);
    let config = GemmConfig { transa, transb, m: 1, n: 1, k: 1, alpha: 1.0, lda: 1, ldb: 1, beta: 0.0, ldc: 1 };
    first.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    second.join(&first).unwrap();
    for (stream, result) in [&first, &second].into_iter().zip(&mut results) {
        if !parallel {
            stream.join(&first).unwrap();
        }
        // SAFETY: the stream is alive.
        unsafe { blas.set_stream(stream.clone()) }.unwrap();
        // SAFETY: one number each.
        unsafe { blas.gemm(config, &factor, &factor, result) }.unwrap();
    }
    first.join(&second).unwrap();
    first.end_capture(Flags(0))
}

#[test]
fn parallel_products_share_a_workspace() {
    emulated("parallel_products_share_a_workspace", &[], || {
        assert!(matches!(products(false), Ok(Some(_))));
        assert_eq!(products(true).err(), Some(DriverError(Code::CUDA_ERROR_LAUNCH_FAILED)));
    });
}
