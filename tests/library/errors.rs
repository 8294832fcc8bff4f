//! Every kind of error occurs. The kinds are read from the source, so a new one fails here until a test produces it. (CUDA's own
//! errors: `tests/cuda_faults.rs`.)

use crate::oracle::{errors::kinds, shape};
use harmonium::{
    Activations, Cpu, Dataset, Error, Isa, Rbm, Result, Settings, Shape, Sums, Trainer, log_partition, model,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn error<T>(result: Result<T>) -> Error {
    result.err().expect("must be refused")
}

#[test]
fn every_kind_of_error_is_produced() {
    let cpu = Cpu::detect().expect("a CPU");
    let gemm = cpu.with_sums(Sums::Gemm).expect("a CPU");
    let errors = [
        error(Dataset::from_u8(vec![0; 7], 2)),
        error(Shape::new(0, 5)),
        error(Dataset::from_f32(vec![f32::NAN], 1)),
        error(Dataset::of_numbers(vec![1.0, 1.0], "potts:1x2".parse().expect("segments"))),
        error(log_partition::exact(Rbm::new(shape(40, 40), 1).view())),
        error(model::load(Path::new("no/such"))),
        error(model::from_bytes(b"", "x")),
        error(Isa::named("mmx")),
        error(Trainer::new(cpu, shape(2, 3), Settings::default()).and_then(|trainer| {
            trainer.chains().visible(&Rbm::new(shape(2, 3), 1).on(gemm)?, &mut Activations::default())
        })),
        #[cfg(feature = "cuda")]
        error(harmonium::Cuda::new(99)),
    ];
    let kind = |error: &Error| format!("{error:?}").split([' ', '(']).next().expect("a name").to_string();
    let found: BTreeSet<String> = errors.iter().map(kind).collect();
    let mut expected = kinds("Error");
    if cfg!(not(feature = "cuda")) {
        expected.remove("Cuda");
    }
    assert_eq!(found, expected);
}

/// These need a device that lacks something; this test only checks that some test expects each of them.
#[test]
fn every_kind_of_cuda_error_is_in_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let paths = fs::read_dir(folder).expect("tests").map(|entry| entry.expect("an entry").path());
    let is_cuda = |path: &PathBuf| path.is_file() && path.to_string_lossy().contains("cuda");
    let tests: String = paths.filter(is_cuda).map(|path| fs::read_to_string(path).expect("a test")).collect();
    for kind in kinds("CudaError") {
        assert!(tests.contains(&kind), "no test of CUDA asks for {kind}");
    }
}
