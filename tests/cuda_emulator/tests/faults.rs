//! Faulty kernels and failing calls are caught and named.

mod common;

use common::{Device, emulated, grid};
use cudarc::driver::sys::cudaError_enum as Code;
use cudarc::driver::{CudaContext, DriverError, PushKernelArg};

/// Launches a kernel with a buffer of 64 words, and returns the result of synchronisation.
fn launch(kernel: &str, blocks: u32, threads: u32, shared: u32, n: Option<u32>) -> Result<(), DriverError> {
    let device = Device::with_fixture("faults");
    let stream = &device.stream;
    let mut buffer = stream.alloc_zeros::<f32>(64)?;
    let input = stream.alloc_zeros::<f32>(64)?;
    let kernel = device.kernel(kernel);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&mut buffer);
    match &n {
        Some(n) => launch.arg(n),
        None => launch.arg(&input),
    };
    // SAFETY: the arguments are the kernel's, or more than it reads.
    unsafe { launch.launch(grid(blocks, threads, shared)) }?;
    stream.synchronize()
}

/// A kernel, its launch, its error code, and words of its message.
fn caught(test: &str, code: Code, words: &[&str], run: impl Fn() -> Result<(), DriverError>) {
    for settings in [&[][..], &[("SEED", "3")]] {
        let stderr = emulated(test, settings, || assert_eq!(run(), Err(DriverError(code))));
        for word in words {
            assert!(stderr.contains(word), "{word:?} is missing in: {stderr}");
        }
    }
}

macro_rules! faults {
    ($($name:ident: $kernel:literal, $shape:expr, $code:ident, [$($word:literal),*];)*) => {$(
        #[test]
        fn $name() {
            caught(stringify!($name), Code::$code, &[concat!("kernel ", $kernel), $($word),*], || {
                let (blocks, threads, shared, n) = $shape;
                launch($kernel, blocks, threads, shared, n)
            });
        }
    )*};
}

faults! {
    a_dropped_barrier: "no_barrier", (1, 64, 0, None), CUDA_ERROR_LAUNCH_FAILED, ["race", "shared"];
    a_sum_that_is_not_atomic: "plain_sum", (1, 64, 0, None), CUDA_ERROR_LAUNCH_FAILED, ["race", "thread"];
    a_bound_off_by_one: "one_too_many", (1, 96, 0, Some(64)), CUDA_ERROR_ILLEGAL_ADDRESS, ["thread [64, 0, 0]", "st.global.u32"];
    a_misaligned_store: "misaligned", (1, 8, 0, None), CUDA_ERROR_MISALIGNED_ADDRESS, ["not a multiple of 4"];
    a_divergent_barrier: "torn_barrier", (1, 32, 0, None), CUDA_ERROR_LAUNCH_FAILED, ["divergent barrier"];
    a_dropped_warp_barrier: "no_warp_barrier", (1, 32, 0, None), CUDA_ERROR_LAUNCH_FAILED, ["race"];
    blocks_that_write_the_same: "blocks_collide", (2, 32, 0, None), CUDA_ERROR_LAUNCH_FAILED, ["race", "block 0"];
    a_trap: "trapped", (1, 1, 0, None), CUDA_ERROR_LAUNCH_FAILED, ["trap"];
    a_shared_array_overrun: "shared_overrun", (1, 32, 128, None), CUDA_ERROR_ILLEGAL_ADDRESS, ["thread [31, 0, 0]", "st.shared"];
}

#[test]
fn an_endless_loop() {
    let stderr = emulated("an_endless_loop", &[("MAX_INSTRUCTIONS", "10000")], || {
        assert_eq!(launch("never_ends", 1, 1, 0, None), Err(DriverError(Code::CUDA_ERROR_LAUNCH_TIMEOUT)));
    });
    assert!(stderr.contains("budget"));
}

#[test]
fn a_warp_barrier_orders_its_lanes() {
    emulated("a_warp_barrier_orders_its_lanes", &[], || {
        assert_eq!(launch("with_warp_barrier", 1, 32, 0, None), Ok(()));
    });
}

#[test]
fn races_are_ignored_without_the_detector() {
    emulated("races_are_ignored_without_the_detector", &[("RACES", "0")], || {
        assert_eq!(launch("blocks_collide", 2, 32, 0, None), Ok(()));
    });
}

#[test]
fn every_later_call_reports_a_fault() {
    emulated("every_later_call_reports_a_fault", &[], || {
        let device = Device::with_fixture("faults");
        let stream = &device.stream;
        let kernel = device.kernel("trapped");
        // SAFETY: the kernel has no parameters.
        unsafe { stream.launch_builder(&kernel).launch(grid(1, 1, 0)) }.expect("the fault comes later");
        let failed = DriverError(Code::CUDA_ERROR_LAUNCH_FAILED);
        assert_eq!(stream.synchronize(), Err(failed));
        assert_eq!(stream.alloc_zeros::<f32>(1).err(), Some(failed));
        assert_eq!(device.context.synchronize(), Err(failed));
    });
}

#[test]
fn invalid_launches() {
    emulated("invalid_launches", &[], || {
        let invalid = Err(DriverError(Code::CUDA_ERROR_INVALID_VALUE));
        assert_eq!(launch("no_barrier", 0, 32, 0, None), invalid);
        assert_eq!(launch("no_barrier", 1, 1025, 0, None), invalid);
        assert_eq!(launch("no_barrier", 1, 32, 64 << 10, None), invalid);
    });
}

#[test]
fn no_device() {
    emulated("no_device", &[("DEVICES", "0")], || {
        let none = DriverError(Code::CUDA_ERROR_NO_DEVICE);
        assert_eq!(CudaContext::device_count(), Err(none));
        assert_eq!(CudaContext::new(0).err(), Some(none));
    });
}

#[test]
fn an_unknown_device() {
    emulated("an_unknown_device", &[("DEVICES", "2")], || {
        assert_eq!(CudaContext::device_count(), Ok(2));
        assert!(CudaContext::new(1).is_ok());
        assert_eq!(CudaContext::new(2).err(), Some(DriverError(Code::CUDA_ERROR_INVALID_DEVICE)));
    });
}

#[test]
fn out_of_memory() {
    let full = DriverError(Code::CUDA_ERROR_OUT_OF_MEMORY);
    emulated("out_of_memory", &[("FAIL_ALLOC", "2")], || {
        let stream = CudaContext::new(0).unwrap().default_stream();
        let first = stream.alloc_zeros::<u8>(10);
        assert!(first.is_ok());
        assert_eq!(stream.alloc_zeros::<u8>(10).err(), Some(full));
    });
}

#[test]
fn out_of_memory_by_size() {
    let full = DriverError(Code::CUDA_ERROR_OUT_OF_MEMORY);
    emulated("out_of_memory_by_size", &[("MEMORY", "1000")], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let kept = stream.alloc_zeros::<u8>(600).unwrap();
        assert_eq!(context.mem_get_info(), Ok((400, 1000)));
        assert_eq!(stream.alloc_zeros::<u8>(600).err(), Some(full));
        drop(kept);
        assert!(stream.alloc_zeros::<u8>(600).is_ok());
    });
}

#[test]
fn a_launch_that_fails_on_request() {
    emulated("a_launch_that_fails_on_request", &[("FAIL_LAUNCH", "1")], || {
        let failed = Err(DriverError(Code::CUDA_ERROR_LAUNCH_FAILED));
        assert_eq!(launch("with_warp_barrier", 1, 32, 0, None), failed);
    });
}

fn load(text: &str) -> Result<(), DriverError> {
    let context = CudaContext::new(0)?;
    context.load_module(cudarc::nvrtc::Ptx::from_src(text)).map(|_| ())
}

const HEAD: &str = ".version 8.0\n.target sm_70\n.address_size 64\n";

#[test]
fn a_driver_older_than_the_ptx() {
    // For each driver, whether it accepts PTX 8.0 and 8.1.
    const CASES: [(&str, bool, bool); 3] = [("11080", false, false), ("12000", true, false), ("12010", true, true)];
    for (driver, ..) in CASES {
        emulated("a_driver_older_than_the_ptx", &[("DRIVER", driver)], || {
            let found = std::env::var("HARMONIUM_EMULATOR_DRIVER").expect("the driver is set");
            let &(_, old, new) = CASES.iter().find(|case| case.0 == found).expect("it is one of the cases");
            let refused = Err(DriverError(Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION));
            assert_eq!(load(HEAD), if old { Ok(()) } else { refused });
            assert_eq!(load(&HEAD.replace("8.0", "8.1")), if new { Ok(()) } else { refused });
        });
    }
}

#[test]
fn modules_that_cannot_be_loaded() {
    let wrong = |body: &str| format!("{HEAD}.visible .entry k() {{ .reg .b32 %r<3>; {body} ret; }}");
    let stderr = emulated("modules_that_cannot_be_loaded", &[], || {
        let invalid = Err(DriverError(Code::CUDA_ERROR_INVALID_PTX));
        assert_eq!(load(&wrong("")), Ok(()));
        assert_eq!(load(&wrong("frobnicate.b32 %r1, %r2;")), invalid);
        assert_eq!(load(&wrong("mul.lo.strange.u32 %r0, %r1, %r2;")), invalid);
        assert_eq!(load(&wrong("mov.u32 %r0, %r3;")), invalid);
        assert_eq!(load(&wrong("bra nowhere;")), invalid);
        assert_eq!(load("not PTX"), invalid);
        let newer = HEAD.replace("sm_70", "sm_120");
        assert_eq!(load(&newer), Err(DriverError(Code::CUDA_ERROR_NO_BINARY_FOR_GPU)));
    });
    for word in ["unknown opcode frobnicate", "unsupported modifier .strange", "%r3 is not known", "nowhere"] {
        assert!(stderr.contains(word), "{word} is missing in {stderr}");
    }
}

#[test]
fn an_unknown_function() {
    emulated("an_unknown_function", &[], || {
        let device = Device::with_fixture("faults");
        let missing = DriverError(Code::CUDA_ERROR_NOT_FOUND);
        assert_eq!(device.module.load_function("nobody").err(), Some(missing));
    });
}

#[test]
fn more_threads_than_the_kernel_allows() {
    emulated("more_threads_than_the_kernel_allows", &[], || {
        let device = Device::with_ptx(&format!("{HEAD}.visible .entry k() .maxntid 64, 1, 1 {{ ret; }}"));
        let kernel = device.kernel("k");
        // SAFETY: the kernel has no parameters.
        let launch = |threads| unsafe { device.stream.launch_builder(&kernel).launch(grid(1, threads, 0)) };
        assert!(launch(64).is_ok());
        assert_eq!(launch(65).err(), Some(DriverError(Code::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)));
    });
}

#[test]
fn large_shared_memory_must_be_requested() {
    use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as LIMIT;
    emulated("large_shared_memory_must_be_requested", &[], || {
        let device = Device::with_fixture("block");
        let mut data = device.stream.clone_htod(&[1u32; 32]).unwrap();
        let kernel = device.kernel("prefix");
        let mut launch = || {
            let mut launch = device.stream.launch_builder(&kernel);
            // SAFETY: the arguments are the kernel's.
            unsafe { launch.arg(&mut data).launch(grid(1, 32, 60 << 10)) }.map(|_| ())
        };
        let invalid = DriverError(Code::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(launch(), Err(invalid));
        assert_eq!(kernel.set_attribute(LIMIT, 200 << 10), Err(invalid));
        assert_eq!(kernel.set_attribute(LIMIT, 60 << 10), Ok(()));
        assert_eq!(launch(), Ok(()));
    });
}
