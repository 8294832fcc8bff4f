//! Several ranks with a GPU each write the bytes of one process on the CPU, and a GPU that fails ends the run with one message.
//!
//! Needs Open MPI's `mpirun`. On the emulator two devices; on a machine with one GPU all ranks share it.

mod oracle;

use harmonium::{
    Activations, Algorithm, BatchMeans, Chains, Cpu, CudaRanks, Descent, Device, Gradient, Ladder, Purpose, Ranks, Rbm,
    Settings, Sums, Sweeps, Tempered, Trainer, TrainerState, Uniforms,
    descent::Centring,
    log_partition::{Annealing, BaseRate, Schedule, Start, bracket},
    npy,
};
use oracle::{
    byte_rows,
    device::{cuda, emulator, is_emulated, task},
    mpirun::{end, errors, fails, fine_after, mixed, mpirun, start},
    program::{empty_folder, fine, folder, outcome},
    random_bytes, random_rbm, shape,
};
use std::{fs, panic, path::Path};

/// The shell commands that each rank runs first.
const DEVICES: &str = "export HARMONIUM_EMULATOR_DEVICES=2;";

#[track_caller]
fn on_gpus(folder: &Path, ranks: usize, arguments: &str) -> String {
    let (stdout, stderr) = fine_after(folder, ranks, DEVICES, &format!("{arguments} --device cuda"));
    assert_eq!(errors(&stderr), [""; 0], "{arguments}");
    stdout
}

/// Training gives the same results with two ranks, and with three of which two share a device.
#[track_caller]
fn same_on_all(folder: &Path, options: &str) {
    let options = format!("train --quiet --samples 0 --seed 7 --likelihood off {options}");
    fine(folder, &format!("{options} --out alone"));
    let alone = outcome(&folder.join("alone"));
    for ranks in [2, 3] {
        on_gpus(folder, ranks, &format!("{options} --out on{ranks}"));
        let (model, checkpoint, log) = outcome(&folder.join(format!("on{ranks}")));
        assert!(model == alone.0, "{options}: another model on {ranks} ranks");
        assert_eq!(log, alone.2, "{options}: {ranks} ranks");
        assert!(checkpoint == alone.1, "{options}: another checkpoint on {ranks} ranks");
    }
}

/// Two words of hidden units, the second of which is not full, and a smaller minibatch at the end.
const BITS: &str = "--data data --hidden 70 --epochs 1 --batch-size 19 --k 3";

#[test]
fn persistent_chains() {
    if cuda().is_none() {
        return;
    }
    let folder = folder("pcd");
    for monitor in ["pl", "pl-exact", "reconstruction"] {
        same_on_all(&folder, &format!("{BITS} --chains 7 --monitor {monitor}"));
    }
    // Fewer chains than ranks.
    same_on_all(&folder, "--data data --hidden 5 --epochs 1 --batch-size 25 --k 1 --chains 2 --monitor none");
}

#[test]
fn contrastive_divergence() {
    if cuda().is_none() {
        return;
    }
    let folder = folder("cd");
    for monitor in ["pl", "reconstruction"] {
        same_on_all(&folder, &format!("{BITS} --algorithm cd --monitor {monitor}"));
    }
}

#[test]
fn rules_of_descent() {
    if cuda().is_none() {
        return;
    }
    let folder = folder("rules");
    let rules = "--centring 0.02 --momentum 0.5 --l2 0.001 --average 0.5 --init data --exchange on";
    same_on_all(&folder, &format!("{BITS} --chains 7 {rules}"));
    let rules = "--sparsity 0.1:0.5 --l1 0.001 --validation 0.3";
    same_on_all(&folder, &format!("{BITS} --chains 7 {rules} --monitor none"));
}

#[test]
fn laws_and_missing_values() {
    if cuda().is_none() {
        return;
    }
    let folder = empty_folder(&[env!("CARGO_CRATE_NAME"), "laws"]);
    npy::save(&mixed(false), 6, &folder.join("mixed.npy")).expect("an array");
    npy::save(&mixed(true), 6, &folder.join("missing.npy")).expect("an array");
    let laws = "--visible binary:3,potts:1x4,gaussian:2 --scale standard --hidden 70 --epochs 1 --batch-size 9 --k 2";
    let options = format!("{laws} --data mixed.npy --lr 0.01");
    same_on_all(&folder, &format!("{options} --chains 8 --variance 0.1 --centring 0.01 --monitor reconstruction"));
    same_on_all(&folder, &format!("{options} --algorithm cd --variance 0.1 --momentum 0.5 --monitor reconstruction"));
    let options = format!("{laws} --data missing.npy --monitor none");
    // Shares begin in the middle of a minibatch, whose rows the chains keep in turn.
    same_on_all(&folder, &format!("{options} --chains 18 --centring 0.01"));
    same_on_all(&folder, &format!("{options} --chains 31"));
    same_on_all(&folder, &format!("{options} --algorithm cd"));
    let states = "--visible potts:2x3 --hidden 5 --epochs 1 --batch-size 20 --k 2 --chains 5 --monitor pl";
    let values: Vec<f32> = (0..100).map(|n| (n * n % 3) as f32).collect();
    npy::save(&values, 2, &folder.join("states.npy")).expect("an array");
    same_on_all(&folder, &format!("{states} --data states.npy"));
    // Only bits.
    let bits = (0..50 * 9).map(|n| if n % 7 == 3 { f32::NAN } else { ((n * n / 3) % 2) as f32 });
    npy::save(&bits.collect::<Vec<_>>(), 9, &folder.join("bits.npy")).expect("an array");
    same_on_all(&folder, "--data bits.npy --hidden 5 --epochs 1 --batch-size 20 --k 2 --chains 13 --monitor none");
}

/// A run of two GPUs resumes on the CPU, and one of the CPU on three GPUs' ranks.
#[test]
fn runs_go_on_elsewhere() {
    if cuda().is_none() {
        return;
    }
    let folder = folder("resume");
    let train = "train --quiet --samples 0 --likelihood off";
    let options = format!("{train} {BITS} --chains 7 --centring 0.01 --momentum 0.5 --average 0.5");
    fine(&folder, &format!("{options} --out whole"));
    let whole = outcome(&folder.join("whole"));
    on_gpus(&folder, 2, &format!("{options} --stop-after 1 --out parts"));
    fine(&folder, "train --quiet --samples 0 --likelihood off --resume parts");
    assert!(outcome(&folder.join("parts")) == whole, "from GPUs to the CPU");
    fine(&folder, &format!("{options} --stop-after 1 --out parts"));
    on_gpus(&folder, 3, "train --quiet --samples 0 --likelihood off --resume parts --stop-after 2");
    on_gpus(&folder, 2, "train --quiet --samples 0 --likelihood off --resume parts");
    assert!(outcome(&folder.join("parts")) == whole, "from the CPU to GPUs");
}

#[test]
fn all_else_that_computes() {
    if cuda().is_none() {
        return;
    }
    let folder = folder("verbs");
    fine(
        &folder,
        "train --quiet --samples 0 --data data --hidden 70 --epochs 2 --batch-size 10 --likelihood off --out run",
    );
    let model = "run/model.safetensors --data data";
    for arguments in [
        format!("evaluate {model} --log-z ais --runs 5 --temperatures 12 --burn-in 2 --json"),
        format!("evaluate {model} --log-z bracket --runs 4 --temperatures 12 --burn-in 4 --json"),
        format!("diagnose {model} --chains 5 --steps 12 --json"),
    ] {
        let timeless = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.contains("\"seconds\"")).map(str::to_string).collect()
        };
        let alone = fine(&folder, &arguments);
        assert!(alone.lines().count() > 5, "{arguments}: {alone}");
        for ranks in [2, 3] {
            assert_eq!(timeless(&on_gpus(&folder, ranks, &arguments)), timeless(&alone), "{arguments}: {ranks} ranks");
        }
    }
    for (command, name) in [
        (format!("transform {model} --sample --out"), "bits.csv"),
        (format!("score {model} --log-z ais --runs 5 --temperatures 12 --burn-in 2 --out"), "scores.csv"),
        (format!("sample {model} --chains 5 --rows 2 --steps 3 --out"), "samples.npy"),
        (format!("sample {model} --chains 5 --rows 2 --steps 3 --clamp 0-3=1 --out"), "clamped.csv"),
    ] {
        let read = |name: &str| fs::read(folder.join(name)).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        fine(&folder, &format!("{command} alone-{name}"));
        for ranks in [2, 3] {
            on_gpus(&folder, ranks, &format!("{command} {ranks}-{name}"));
            assert!(read(&format!("{ranks}-{name}")) == read(&format!("alone-{name}")), "{command} on {ranks} ranks");
        }
    }
}

#[test]
fn labels() {
    if cuda().is_none() {
        return;
    }
    let folder = folder("labels");
    let labels: String = (0..50).map(|r| format!("{}\n", ["a", "b", "c"][r % 3])).collect();
    fs::write(folder.join("labels.csv"), labels).expect("labels");
    let options = "--data data --hidden 5 --updates 2 --batch-size 9 --k 1 --chains 3 --labels labels.csv --hybrid 0.1";
    same_on_all(&folder, options);
    for command in ["classify alone/model.safetensors", "impute alone/model.safetensors --draws 9 --burn-in 3"] {
        let command = format!("{command} --data data --out");
        fine(&folder, &format!("{command} alone.csv"));
        on_gpus(&folder, 3, &format!("{command} gpus.csv"));
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a table");
        assert_eq!(read("alone.csv"), read("gpus.csv"), "{command}");
    }
}

/// The ranks and their GPUs, in the three processes that this test starts. `None` in the test's own process, after these have
/// succeeded.
#[track_caller]
fn three_ranks(test: &str, shell: &str, sums: Sums) -> Option<CudaRanks> {
    if task().is_none() {
        cuda()?;
        let folder = empty_folder(&[env!("CARGO_CRATE_NAME"), test]);
        let program = std::env::current_exe().expect("a test knows its own path");
        let shell = format!("{DEVICES} {shell} export HARMONIUM_CUDA_TASK=inside;");
        let arguments = format!("--exact {test} --nocapture");
        let (status, stdout, stderr) = end(&folder, mpirun(&[], &folder, 3, &shell, &program, &arguments));
        // The output of one rank may come in the middle of another's.
        assert!(status == 0 && stdout.matches("1 passed; 0 failed").count() == 3, "{stdout}{stderr}");
        return None;
    }
    let ranks = Ranks::join(Cpu::detect().expect("a CPU")).expect("ranks");
    // A rank that fails ends the others, which would wait for it.
    let (usual, all) = (panic::take_hook(), ranks.clone());
    panic::set_hook(Box::new(move |what| {
        usual(what);
        all.abort(101);
    }));
    Some(CudaRanks::open(&ranks, 0, sums).expect("a GPU"))
}

/// Every method that moves chains, with steps that need no means, on the rank's own GPU.
#[test]
fn every_way_to_move_chains() {
    let Some(gpus) = three_ranks("every_way_to_move_chains", "", Sums::Canonical) else { return };
    let ranks = gpus.ranks();
    if is_emulated(gpus.cuda()) {
        assert!(gpus.cuda().to_string().starts_with(&format!("GPU {} ", ranks.rank() % 2)), "{gpus}");
        assert_eq!((gpus.sharing(), gpus.cuda().has_grid()), ([2, 1, 2][ranks.rank()], true));
    }
    let annealing = Annealing { schedule: Schedule::new(9).expect("a schedule"), ..Annealing::default() };
    let moved = |device: Device| {
        let rbm = random_rbm(shape(70, 90), 0.5, 2).on(&device).expect("a model");
        let mut chains = Chains::new(&device, rbm.shape(), 11, Uniforms::new(3, Purpose::Sampling)).expect("chains");
        chains.sweep(&rbm, 3).expect("a sweep");
        chains.sweep(&rbm, 1).expect("a step");
        let mut visible = Activations::default();
        chains.visible(&rbm, &mut visible).expect("a layer");
        // Log weights to the last bit; the command prints fewer digits.
        let (bytes, settings) = (random_bytes(5 * 70, 0.4, 1), Annealing { runs: 5, burn_in: 2, ..annealing.clone() });
        let start = Start::Rows(byte_rows(&bytes, 70).into());
        let log_z = bracket(&rbm, &BaseRate::uniform(70), start, &settings).expect("log Z");
        (chains.state().expect("states"), visible, format!("{log_z:?}"))
    };
    let expected = moved(ranks.cpu().into());
    for sweeps in [Sweeps::Auto, Sweeps::Blocks, Sweeps::Clusters, Sweeps::Strips, Sweeps::Grid] {
        assert_eq!(moved(gpus.clone().with_sweeps(sweeps).into()), expected, "{sweeps:?}");
    }
}

/// Six updates by rules, with an exchange of busy units after three, and all results of a trainer.
fn trained(device: &Device) -> (Rbm, TrainerState, Gradient, BatchMeans, Vec<f64>) {
    let descent = Descent { centring: Some(Centring { rate: 0.1 }), momentum: 0.5, ..Descent::default() };
    let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 7 }, k: 2, descent, ..Settings::default() };
    let bytes = random_bytes(10 * 20, 0.4, 1);
    let data = device.load(byte_rows(&bytes, 20)).expect("rows");
    let mut rbm = random_rbm(shape(20, 70), 0.5, 2).on(device).expect("a model");
    let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("a trainer");
    for n in 0..6 {
        trainer.step(&mut rbm, data.range(n..n + 5), 0.1).expect("a step");
        if n == 2 {
            assert!(!trainer.exchange_busy_units(&mut rbm, 0.45).expect("exchanged").is_empty());
        }
    }
    let (mut gradient, mut means) = (Gradient::zero(rbm.shape()), BatchMeans::default());
    trainer.gradient_and_means(&rbm, data.all(), &mut gradient, &mut means).expect("a gradient");
    let energies = rbm.free_energy(data.all()).expect("energies");
    (rbm.to_rbm().expect("a model"), trainer.state().expect("a state"), gradient, means, energies)
}

#[test]
fn what_a_trainer_gives() {
    let Some(gpus) = three_ranks("what_a_trainer_gives", "", Sums::Canonical) else { return };
    assert_eq!(trained(&gpus.clone().into()), trained(&gpus.ranks().cpu().into()));
}

/// Chains at several temperatures exchange their states.
#[test]
fn tempered_chains() {
    let Some(gpus) = three_ranks("tempered_chains", "", Sums::Canonical) else { return };
    let tempered = |device: Device| {
        let rbm = random_rbm(shape(12, 70), 0.5, 2).on(&device).expect("a model");
        let start = Chains::new(&device, rbm.shape(), 3, Uniforms::new(3, Purpose::Sampling)).expect("chains");
        let (ladder, draws) = (Ladder::Fixed(&[1.0, 0.6, 0.0]), Uniforms::new(3, Purpose::Exchanging));
        let mut all = Tempered::new(&rbm, &start, ladder, draws).expect("chains");
        (0..4).for_each(|_| all.step(&rbm, 2).expect("a step"));
        let mut visible = Activations::default();
        all.coldest(&rbm, &mut visible).expect("a layer");
        (visible, all.rates(), all.chains().state().expect("states"))
    };
    assert_eq!(tempered(gpus.clone().into()), tempered(gpus.ranks().cpu().into()));
}

/// Ranks whose matrix libraries round differently continue with the same numbers.
#[test]
fn matrix_libraries_that_differ() {
    let differ = "export HARMONIUM_EMULATOR_APPROX_SEED=$OMPI_COMM_WORLD_RANK;";
    let Some(gpus) = three_ranks("matrix_libraries_that_differ", differ, Sums::Gemm) else { return };
    let text = |on: &Device| format!("{:?}", trained(on));
    gpus.ranks().check_same("what is trained", &text(&gpus.clone().into())).expect("the same numbers");
    if is_emulated(gpus.cuda()) {
        // The libraries do differ.
        let alone = gpus.cuda().clone().into();
        gpus.ranks().check_same("what is trained", &text(&alone)).expect_err("other numbers");
    }
}

#[test]
fn a_gpu_that_fails_ends_the_run() {
    if !emulator() {
        return;
    }
    let folder = folder("failure");
    let train = format!("train --quiet --samples 0 --likelihood off {BITS} --chains 7 --device cuda --out run");
    // Memory, a kernel in an update, and a copy to the host.
    for failure in ["FAIL_ALLOC=1", "FAIL_ALLOC=15", "FAIL_LAUNCH=30", "FAIL_READ=3"] {
        for rank in [0, 2] {
            let shell =
                format!("{DEVICES} [ $OMPI_COMM_WORLD_RANK != {rank} ] || export HARMONIUM_EMULATOR_{failure};");
            let expected = if rank == 0 { "error: CUDA: " } else { "error: rank 2 of 3 on " };
            fails(&folder, &shell, &train, 1, expected);
        }
    }
    // All ranks have the same error, so only the first one reports it.
    fails(&folder, "export HARMONIUM_EMULATOR_DEVICES=0;", &train, 1, "error: CUDA: ");
    let other = train.replace("--device cuda", "--device cuda:7");
    fails(&folder, DEVICES, &other, 1, "error: CUDA: ");
    // A notice says that ranks share a device.
    for (ranks, notices) in [(2, 0), (3, 1)] {
        let (status, _, stderr) = end(&folder, start(&folder, ranks, DEVICES, &train));
        assert_eq!((status, stderr.matches("notice: 2 ranks share a GPU").count()), (0, notices), "{stderr}");
    }
}
