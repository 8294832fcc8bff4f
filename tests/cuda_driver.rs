//! The driver: missing parts are reported, and an update makes the calls that the documentation states.
//!
//! Settings of the emulator make a driver that lacks something, or one that records its calls.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{
    Algorithm, Chains, Cpu, Cuda, CudaError, Descent, Device, Error, Monitor, Program, Purpose, Rbm, Settings, Sums,
    Trainer, Uniforms, descent::Centring,
};
use oracle::{
    byte_rows,
    device::{self, apart, cuda, emulator, task},
    places, random_bytes, random_rbm, shape,
};

/// A few updates of either algorithm, free energies and the monitor.
fn use_it(device: &Device) -> harmonium::Result<(Rbm, Vec<f64>)> {
    let shape = shape(70, 45);
    let mut rbm = random_rbm(shape, 0.5, 1);
    let bytes = random_bytes(12 * 70, 0.3, 2);
    let data = device.load(byte_rows(&bytes, 70))?;
    let mut found = Vec::new();
    for (algorithm, monitor) in
        [(Algorithm::Pcd { n_chains: 3 }, Monitor::PseudoLikelihood), (Algorithm::Cd, Monitor::Reconstruction)]
    {
        let mut trainer =
            Trainer::new(device, shape, Settings { algorithm, k: 3, monitor, seed: 3, ..Settings::default() })?;
        let mut lent = rbm.lend(device)?;
        for batch in [0..6, 6..12] {
            trainer.step(&mut lent, data.range(batch), 0.1)?;
        }
        found.extend(lent.free_energy(data.range(0..12))?);
        lent.finish()?;
        found.extend(trainer.take_report()?.monitor);
    }
    Ok((rbm, found))
}

/// The driver calls of an epoch of PCD: a launch, a graph and a launch for each update; with rules of descent three launches, and
/// more for products; then one read-back. After the first updates no memory is allocated. `src/cuda/mod.rs` documents this.
#[test]
fn an_update_is_three_launches_and_no_copy() {
    let test = "an_update_is_three_launches_and_no_copy";
    if let Some(task) = task() {
        let mut cuda = cuda().expect("the emulator");
        let mut descent = Descent::default();
        if task.contains("rules") {
            descent = Descent { centring: Some(Centring::default()), momentum: 0.5, ..descent };
        }
        if task.contains("products") {
            cuda = cuda.with_sums(Sums::Gemm).expect("cuBLAS");
        }
        let shape = shape(70, 45);
        let mut rbm = random_rbm(shape, 0.5, 1);
        let bytes = random_bytes(12 * 70, 0.3, 2);
        let data = cuda.load(byte_rows(&bytes, 70)).expect("data");
        let settings = Settings {
            algorithm: Algorithm::Pcd { n_chains: 3 },
            k: 3,
            monitor: Monitor::PseudoLikelihood,
            seed: 3,
            descent,
            ..Settings::default()
        };
        let mut trainer = Trainer::new(&cuda, shape, settings).expect("a trainer");
        let mut lent = rbm.lend(&cuda).expect("lent");
        for (first, ordinal) in [(0, "first"), (4, "second"), (8, "third")] {
            eprintln!("the {ordinal} update");
            trainer.step(&mut lent, data.range(first..first + 4), 0.1).expect("a step");
        }
        eprintln!("the report");
        trainer.take_report().expect("a report");
        eprintln!("the end");
        return;
    }
    if !emulator() {
        return;
    }
    fn calls<'a>(output: &'a str, from: &str, to: &str) -> Vec<&'a str> {
        let (_, rest) = output.split_once(from).expect("it begins");
        let (part, _) = rest.split_once(to).expect("it ends");
        part.lines().filter_map(|line| line.strip_prefix("cuda emulator: call: ")).collect()
    }
    let products = ["numbers_of_rows", "matrix product", "numbers_of_bits", "matrix product"];
    let rules = ["count_from_offsets", "descend_biases"];
    let tasks: [(&str, Vec<&str>); 4] = [
        ("plain", vec!["learn"]),
        ("rules", [&rules[..], &["descend_weights"]].concat()),
        ("products", [&products[..], &["learn_bias", "learn_bias", "transpose"]].concat()),
        ("rules, products", [&rules[..], &products, &["descend_by_products", "transpose"]].concat()),
    ];
    for (task, kernels) in tasks {
        let (ended_well, output) = apart(test, task, &[("HARMONIUM_EMULATOR_TRACE", "1")]);
        assert!(ended_well, "{output}");
        let calls = |from, to| calls(&output, from, to);
        let end = kernels.iter().map(|name| match *name {
            "matrix product" => "matrix product".to_owned(),
            name => format!("launch of {name}"),
        });
        let second = calls("the second update", "the third update");
        let third = calls("the third update", "the report");
        assert_eq!(third[0], "launch of begin", "{task}");
        assert!(third[1].starts_with("graph of "), "{task}: {third:?}");
        assert_eq!(third[2..], Vec::from_iter(end), "{task}");
        assert_eq!(calls("the report", "the end"), ["copy of 8 bytes to the host", "8 bytes filled"]);
        if task.contains("products") {
            continue;
        }
        let captured = calls("the first update", "the second update");
        for kernel in ["propagate", "pseudo_likelihood_of_bit", "sweep", "finish"] {
            assert!(captured.contains(&format!("captured launch of {kernel}").as_str()), "{captured:?}");
        }
        assert_eq!(third[1], "graph of 4");
        assert_eq!(second, third, "{task}");
    }
}

/// Missing parts: settings of the emulator, and the expected errors.
#[test]
fn missing_parts_are_reported() {
    let test = "missing_parts_are_reported";
    if task().is_some() {
        match Cuda::new(0).and_then(|cuda| use_it(&cuda.into())) {
            Ok(_) => println!("nothing is missing"),
            Err(error) => println!("{error:?}: {error}"),
        }
        return;
    }
    if !emulator() {
        return;
    }
    for (setting, value, expected) in [
        ("DEVICES", "0", "NoDevice { ordinal: 0, found: 0 }"),
        ("DRIVER", "11080", "DriverTooOld { expected: \"12.0\", found: \"11.8\" }"),
        ("CAPABILITY", "61", "DeviceTooOld { found: \"6.1\" }"),
        ("MEMORY", "40000", "OutOfMemory { bytes: "),
        ("FAIL_ALLOC", "5", "OutOfMemory { bytes: "),
        ("FAIL_LAUNCH", "1", "Failed { call: "),
        ("FAIL_LAUNCH", "9", "Failed { call: "),
        ("DEVICES", "1", "nothing is missing"),
    ] {
        let (ended_well, output) = apart(test, "", &[(&format!("HARMONIUM_EMULATOR_{setting}"), value)]);
        assert!(ended_well && output.contains(expected), "{setting}={value}: {output}");
    }
    // Without NVRTC: the committed PTX. Without a driver: an error.
    let driver_only = folder("driver_only", &["libcuda.so"]);
    let (ended_well, output) = apart(test, "", &[("LD_LIBRARY_PATH", &driver_only)]);
    assert!(ended_well && output.contains("nothing is missing"), "without NVRTC: {output}");
    let (ended_well, output) = apart(test, "", &[("LD_LIBRARY_PATH", &folder("nothing", &[]))]);
    assert!(ended_well && output.contains("NoDriver"), "without a driver: {output}");
}

/// A full device reports an error; after memory is freed it computes as before.
#[test]
fn a_full_device() {
    let test = "a_full_device";
    let Some(cuda) = device::cuda() else { return };
    let emulated = device::is_emulated(&cuda);
    if emulated && task().is_none() {
        let (ended_well, output) = apart(test, "", &[("HARMONIUM_EMULATOR_MEMORY", "100000000")]);
        assert!(ended_well, "{output}");
        return;
    }
    if !device::alone() {
        return;
    }
    let expected = use_it(&Cpu::detect().expect("a CPU").into()).expect("numbers");
    let largest = if emulated { 1 << 24 } else { 1 << 30 };
    let bytes = vec![1; largest];
    let mut held = Vec::new();
    for size in [largest, largest / 32, largest / 1024] {
        let error = loop {
            match cuda.load(byte_rows(&bytes[..size], 1024)) {
                Ok(data) => held.push(data),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::Cuda(CudaError::OutOfMemory { bytes: size }));
    }
    println!("{} loads filled the device", held.len());
    drop(held);
    assert_eq!(use_it(&cuda.into()).expect("numbers"), expected);
}

/// A report that cannot be read back loses no values: the next one covers the whole interval.
#[test]
fn a_failed_report_loses_nothing() {
    let test = "a_failed_report_loses_nothing";
    fn trained(device: &Device) -> Trainer {
        let (shape, bytes) = (shape(20, 15), random_bytes(4 * 20, 0.3, 2));
        let mut trainer = Trainer::new(device, shape, Settings::default()).expect("a trainer");
        let mut resident = random_rbm(shape, 0.5, 1).on(device).expect("resident");
        for _ in 0..3 {
            trainer.step(&mut resident, byte_rows(&bytes, 20), 0.1).expect("a step");
        }
        trainer
    }
    if task().is_some() {
        let mut trainer = trained(&cuda().expect("the emulator").into());
        match trainer.take_report() {
            Err(Error::Cuda(CudaError::Failed { call: "copy from the device", .. })) => {}
            other => panic!("{other:?}"),
        }
        let expected = trained(&Cpu::detect().expect("a CPU").into()).take_report().expect("a report");
        assert_eq!(expected.since_last, 3);
        assert_eq!(trainer.take_report().expect("a report"), expected);
        assert_eq!(trainer.take_report().expect("a report").since_last, 0);
        return;
    }
    if emulator() {
        let (ended_well, output) = apart(test, "", &[("HARMONIUM_EMULATOR_FAIL_READ", "1")]);
        assert!(ended_well, "{output}");
    }
}

/// A driver without cuBLAS: its sums report an error, and canonical ones work. cuBLAS's own memory may be too much as well.
#[test]
fn without_cublas_only_canonical_sums() {
    let test = "without_cublas_only_canonical_sums";
    if task().is_some() {
        println!(
            "gemm: {:?}",
            Cuda::new(0).and_then(|cuda| cuda.with_sums(Sums::Gemm)).map_err(|error| format!("{error:?}: {error}"))
        );
        println!("canonical: {:?}", Cuda::new(0).map(|cuda| cuda.name().to_owned()));
        return;
    }
    if !emulator() {
        return;
    }
    let (ended_well, output) = apart(test, "", &[("LD_LIBRARY_PATH", &folder("no_cublas", &["libcuda.so"]))]);
    assert!(ended_well && output.contains("NoCublas): CUDA: no cuBLAS: libcublas cannot be loaded"), "{output}");
    assert!(output.contains(&format!("canonical: Ok({:?})", device::EMULATOR)), "{output}");
    let (ended_well, output) = apart(test, "", &[("HARMONIUM_EMULATOR_MEMORY", "100000")]);
    assert!(ended_well && output.contains("OutOfMemory { bytes: 4194304 }"), "{output}");
    let (ended_well, output) = apart(test, "", &[]);
    assert!(ended_well && output.contains("gemm: Ok("), "{output}");
}

/// Clusters of blocks need a device with clusters, and a driver that accepts their PTX. Without them other kernels give the same
/// results.
#[test]
fn clusters_need_device_and_driver() {
    let test = "clusters_need_device_and_driver";
    if task().is_some() {
        let cuda = Cuda::with_program(0, Program::OwnPtx).expect("the emulator");
        use_it(&cuda.clone().into()).expect("kernels");
        println!("clusters: {}", cuda.has_clusters());
        return;
    }
    if !emulator() {
        return;
    }
    for (capability, driver, expected) in [("86", "13000", false), ("90", "13000", true), ("90", "12000", false)] {
        let settings = [("HARMONIUM_EMULATOR_CAPABILITY", capability), ("HARMONIUM_EMULATOR_DRIVER", driver)];
        let (ended_well, output) = apart(test, "", &settings);
        assert!(ended_well && output.contains(&format!("clusters: {expected}")), "{settings:?}: {output}");
    }
}

/// A block stores the bits of both layers in shared memory.
#[test]
fn too_many_units_for_a_block() {
    let Some(cuda) = device::cuda() else { return };
    let resident = Rbm::new(shape(300_000, 1), 1).on(&cuda).expect("resident");
    let draws = Uniforms::new(1, Purpose::Sampling);
    let swept = Chains::new(&cuda, shape(300_000, 1), 1, draws).and_then(|mut chains| chains.sweep(&resident, 1));
    let expected = CudaError::TooLarge { what: "units of both layers", limit: 286_592, found: 300_001 };
    assert_eq!(swept, Err(Error::Cuda(expected)));
}

/// A folder with some of the libraries that this process found on its library path.
fn folder(name: &str, libraries: &[&str]) -> String {
    let folder = places::scratch().join(name);
    std::fs::create_dir_all(&folder).expect("a folder can be created");
    let path = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    for library in libraries {
        let found = std::env::split_paths(&path).map(|folder| folder.join(library)).find(|file| file.exists());
        let link = folder.join(library);
        let _ = std::fs::remove_file(&link);
        let target = std::fs::canonicalize(found.expect("the library is on the path")).expect("a file");
        std::os::unix::fs::symlink(target, &link).expect("a link can be created");
    }
    folder.to_string_lossy().into_owned()
}

#[test]
fn an_unknown_device() {
    match Cuda::new(99) {
        Err(Error::Cuda(CudaError::NoDevice { ordinal: 99, .. } | CudaError::NoDriver)) => {}
        other => panic!("{other:?}"),
    }
}
