//! Faults injected into the kernels are found.
//!
//! Each fault runs in a separate process, on the emulator (a GPU need not show a race), with kernels that NVRTC compiles from the
//! changed source. A fault is found if the emulator stops it, or if a result differs from the CPU's.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{
    Activations, Algorithm, Chains, Cpu, Cuda, CudaError, Device, Error, Gradient, Monitor, Program, Purpose, Rbm,
    Result, Rows, Settings, Sums, Sweeps, Trainer, Uniforms,
    log_partition::{Annealing, BaseRate, Schedule, ais},
};
use oracle::{
    byte_rows, device,
    faults::{Fault, catches},
    flat, random_bytes, random_rbm, random_values, rows, shape,
};

const FAULTS: &[Fault] = &[
    Fault {
        name: "no barrier before the list of active units",
        from: "            __syncthreads();\n            u32 n = list_units(list, words + tile / 32",
        to: "            u32 n = list_units(list, words + tile / 32",
        found: "race",
    },
    Fault {
        name: "no barrier after the list of active units",
        from: "            __syncthreads();\n            if (unit < side.made) sum = add_active",
        to: "            if (unit < side.made) sum = add_active",
        found: "ILLEGAL_ADDRESS",
    },
    Fault {
        name: "no barrier before the words of a row are listed",
        from: "            __syncthreads();\n            u32 n = list_units(list, words, side.given, tile,",
        to: "            u32 n = list_units(list, words, side.given, tile,",
        found: "race",
    },
    Fault {
        name: "no barrier after the words of a row are listed",
        from: "            __syncthreads();\n            if (unit < side.made) sum = add_weighted",
        to: "            if (unit < side.made) sum = add_weighted",
        found: "ILLEGAL_ADDRESS",
    },
    Fault {
        name: "no barrier before terms are added up",
        from: "    terms[threadIdx.x] = term;\n    __syncthreads();",
        to: "    terms[threadIdx.x] = term;",
        found: "race",
    },
    Fault {
        name: "no barrier before the weights are transposed",
        from: "    if (p.transposed) {\n        __syncthreads();",
        to: "    if (p.transposed) {",
        found: "race",
    },
    Fault {
        name: "a sum by all lanes, not atomic",
        from: "if (first_j == 0 && lane == 0) step",
        to: "if (first_j == 0) step",
        found: "race",
    },
    Fault {
        name: "a sum by all blocks, not atomic",
        from: "if (first_j == 0 && lane == 0) step",
        to: "if (lane == 0) step",
        found: "race",
    },
    Fault {
        name: "one row too many",
        from: "    if (row >= rows) return;\n    double sum",
        to: "    if (row > rows) return;\n    double sum",
        found: "ILLEGAL_ADDRESS",
    },
    Fault {
        name: "one element too many",
        from: "if (at < n) out[at] =",
        to: "if (at <= n) out[at] =",
        found: "ILLEGAL_ADDRESS",
    },
    Fault {
        name: "one weight too many: the row of zeros",
        from: "    if (i < p.n_visible) {\n        float* weight",
        to: "    if (i < p.n_visible + 1) {\n        float* weight",
        found: "ILLEGAL_ADDRESS",
    },
    Fault {
        name: "one unit too few",
        from: "if (unit < side.made) sum = add_active",
        to: "if (unit + 1 < side.made) sum = add_active",
        found: "not the CPU's",
    },
    Fault {
        name: "a wrong multiplier in the jump",
        from: "6364136223846793005ull",
        to: "6364136223846793009ull",
        found: "not the CPU's",
    },
    Fault {
        name: "a step too short in the draws",
        from: "n_chains * ((u64)down.made + up.made)",
        to: "n_chains * (u64)down.made",
        found: "not the CPU's",
    },
    Fault {
        name: "a generator that does not advance",
        from: "    *generator = jump.from(*generator);",
        to: "",
        found: "not the CPU's",
    },
    Fault {
        name: "a bit captured in the graph",
        from: "    cursor->bit = bit;",
        to: "    cursor->bit = 0;",
        found: "not the CPU's",
    },
    Fault {
        name: "no barrier before another tile of a strip",
        from: "                in_tile = row;\n                __syncthreads();",
        to: "                in_tile = row;",
        found: "race",
    },
    Fault {
        name: "no barrier after a tile of a strip",
        from: "                __syncthreads();\n            }\n            // Words are loaded one chain ahead",
        to: "            }\n            // Words are loaded one chain ahead",
        found: "race",
    },
    Fault {
        name: "no barrier between a warp's list and its sums",
        from: "list[listed + lane] = (u16)zeros;\n    __syncwarp();",
        to: "list[listed + lane] = (u16)zeros;",
        found: "race",
    },
    Fault {
        name: "draws of the neighbouring unit in a strip",
        from: "over_32 = jump_over(32)",
        to: "over_32 = jump_over(31)",
        found: "not the CPU's",
    },
    Fault {
        name: "swapped launch arguments of one width",
        from: "sweep(Side down, Side up, Chains",
        to: "sweep(Side up, Side down, Chains",
        found: "",
    },
    Fault {
        name: "swapped fields of one width",
        from: "    float* visible_pre;\n    float* hidden_mean;",
        to: "    float* hidden_mean;\n    float* visible_pre;",
        found: "",
    },
    Fault {
        name: "another order of additions",
        from: "sum = __fadd_rn(sum, w[a]);",
        to: "sum = __fadd_rn(sum, w[AHEAD - 1 - a]);",
        found: "not the CPU's",
    },
    Fault {
        name: "an approximate division",
        from: "0.0f : __fdiv_rn(1.0f,",
        to: "0.0f : __fdividef(1.0f,",
        found: "not the CPU's",
    },
    Fault {
        name: "an addition that must not be fused",
        from: "__fmul_rn(positive, s.positive_scale)",
        to: "__fmaf_rn(positive, s.positive_scale, 1e-9f)",
        found: "not the CPU's",
    },
];

/// Faults of the kernel that processes a chain with a cluster of blocks.
const CLUSTER_FAULTS: &[Fault] = &[
    Fault {
        name: "no barrier of the cluster before the first words",
        from: "    wait_for_cluster();\n",
        to: "    __syncthreads();\n",
        found: "LAUNCH_FAILED",
    },
    Fault { name: "no wait for visible words", from: "        of_visible.await(step);\n", to: "", found: "race" },
    Fault { name: "no wait for hidden words", from: "        of_hidden.await(step);\n", to: "", found: "race" },
    Fault {
        name: "a round that nobody expects",
        from: "        if (!last) of_visible.expect();\n",
        to: "",
        found: "LAUNCH_FAILED",
    },
    Fault {
        name: "words that are not expected",
        from: "bytes = words_in(units) * 4;",
        to: "bytes = words_in(units) * 4 + 4;",
        found: "LAUNCH_FAILED",
    },
    Fault {
        name: "no barrier after the list",
        from: "            u32 listed = list_in_block(units, words, side.given, tile);\n            __syncthreads();",
        to: "            u32 listed = list_in_block(units, words, side.given, tile);",
        found: "ILLEGAL_ADDRESS",
    },
    Fault {
        name: "no barrier after the copies",
        from: "                copy_rows(side, part, units + begin, stage, rows);\n                __syncthreads();",
        to: "                copy_rows(side, part, units + begin, stage, rows);",
        found: "race",
    },
    Fault {
        name: "no wait for the copies",
        from: "asm volatile(\"cp.async.wait_all;\" ::: \"memory\");",
        to: "",
        found: "",
    },
    Fault {
        name: "blocks without words of the visible layer",
        from: "min(CLUSTER, min(words_in(down.made), words_in(up.made)))",
        to: "min(CLUSTER, words_in(up.made))",
        found: "LAUNCH_FAILED",
    },
    Fault {
        name: "words for a block that has ended",
        from: "if (threadIdx.x % 32 >= blocks) return;",
        to: "if (threadIdx.x % 32 >= CLUSTER) return;",
        found: "LAUNCH_FAILED",
    },
    Fault {
        name: "one unit too few at the end of a column",
        from: "r + a < rows ? weights",
        to: "r + a + 1 < rows ? weights",
        found: "not the CPU's",
    },
    Fault {
        name: "draws of another block",
        from: "first + chain * down.made + visible_part.first + warps_first",
        to: "first + chain * down.made + warps_first",
        found: "not the CPU's",
    },
];

/// Faults of the kernels around cuBLAS's products.
const GEMM_FAULTS: &[Fault] = &[
    Fault {
        name: "no barrier before the lanes' sums are added",
        from: "    __syncthreads();\n    if (lane > 0 || !exists) return;",
        to: "    if (lane > 0 || !exists) return;",
        found: "race",
    },
    Fault {
        name: "biases that all lanes learn, not atomic",
        from: "if (lane > 0 || !exists) return;",
        to: "if (!exists) return;",
        found: "race",
    },
    Fault {
        name: "rows too many in the last block of a layer",
        from: "u64 end = min(at.first_row + ROWS_A_BLOCK, (u64)rows);",
        to: "u64 end = at.first_row + ROWS_A_BLOCK;",
        found: "ILLEGAL_ADDRESS",
    },
    Fault {
        name: "one unit too few among the numbers",
        from: "    if (at.unit >= units) return;",
        to: "    if (at.unit + 1 >= units) return;",
        found: "not the CPU's",
    },
    Fault {
        name: "a gain for one chain too many",
        from: "bool exists = chain < chains;",
        to: "bool exists = chain <= chains;",
        found: "ILLEGAL_ADDRESS",
    },
    Fault {
        name: "draws that jump over the padding of a row",
        from: "over_a_row = jump_over(side.made);",
        to: "over_a_row = jump_over(side.stride);",
        found: "not the CPU's",
    },
    Fault {
        name: "draws of the first layer for both",
        from: "first + at.first_row * side.made",
        to: "at.first_row * side.made",
        found: "not the CPU's",
    },
    Fault {
        name: "bits in partial words",
        from: "bits[at.first_row * words_of(units) + at.unit / 32]",
        to: "bits[at.first_row * ((units + 31) / 32) + at.unit / 32]",
        found: "not the CPU's",
    },
    Fault {
        name: "rows without weights",
        from: "if (row_weights) x = __fmul_rn(row_weights[at.first_row], x);",
        to: "",
        found: "not the CPU's",
    },
    Fault {
        name: "rows that are never rounded",
        from: "float x = round ? (",
        to: "float x = false ? (",
        found: "not the CPU's",
    },
    Fault {
        name: "swapped outputs of one width",
        from: "float* pre_activations, float* means, float* states, u32* bits) {\n    Place",
        to: "float* means, float* pre_activations, float* states, u32* bits) {\n    Place",
        found: "not the CPU's",
    },
    Fault {
        name: "swapped scales of the phases",
        from: "    float positive_scale;\n    float negative_scale;\n};\n\n/// The sum of a column",
        to: "    float negative_scale;\n    float positive_scale;\n};\n\n/// The sum of a column",
        found: "not the CPU's",
    },
];

/// Results of the kernels around products, at least once each. Chains as numbers 0 and 1.
fn numbers(device: &Device) -> Result<Vec<f64>> {
    let shape = shape(70, 45);
    let mut rbm: Rbm = random_rbm(shape, 0.5, 1);
    let grey = random_values(12 * 70, 0.4, 2);
    let data = device.load(rows(&grey, 70))?;
    let all = data.range(0..12);
    let mut numbers = Vec::new();
    for (algorithm, monitor) in [
        (Algorithm::Pcd { n_chains: 5 }, Monitor::PseudoLikelihood),
        (Algorithm::Cd, Monitor::Reconstruction),
        (Algorithm::Pcd { n_chains: 2 }, Monitor::ExactPseudoLikelihood),
    ] {
        let mut trainer =
            Trainer::new(device, shape, Settings { algorithm, k: 2, monitor, seed: 3, ..Settings::default() })?;
        let mut lent = rbm.lend(device)?;
        trainer.step(&mut lent, all, 0.1)?;
        let mut gradient = Gradient::zero(shape);
        lent.free_energy_gradient(all, &[0.25; 12], &mut gradient)?;
        numbers.extend(flat(&gradient));
        numbers.extend(lent.free_energy(all)?);
        lent.finish()?;
        numbers.extend(trainer.take_report()?.monitor);
        let (mut visible, view) = (Activations::default(), rbm.view());
        trainer.chains().visible(&rbm.on(device)?, &mut visible)?;
        let hidden = trainer.chains().hidden()?;
        let buffers = [&visible.pre_activation, &visible.sample, &hidden, view.weights(), view.visible_bias()];
        numbers.extend(buffers.into_iter().flatten().chain(view.hidden_bias()).map(|&x| f64::from(x)));
    }
    let settings = Annealing { runs: 5, schedule: Schedule::new(4)?, ..Annealing::default() };
    numbers.push(ais(&rbm.on(device)?, &BaseRate::uniform(70), &settings)?.estimate);
    Ok(numbers)
}

/// [`verdict`] with a tolerance of a hundred times the rounding error.
fn gemm_verdict(program: Program<'_>) -> std::result::Result<(), String> {
    let gemm = Cuda::with_program(0, program)
        .and_then(|cuda| cuda.with_sums(Sums::Gemm))
        .map_err(|error| error.to_string())?;
    let found = numbers(&gemm.into()).map_err(|error| error.to_string())?;
    let expected = numbers(&Cpu::detect().expect("a CPU").into()).expect("numbers");
    let near = |(found, expected): (&f64, &f64)| (found - expected).abs() <= 1e-4 * expected.abs().max(1.0);
    let agree = found.len() == expected.len() && found.iter().zip(&expected).all(near);
    if agree { Ok(()) } else { Err("a result is not the CPU's".into()) }
}

/// Results of all kernels, at least once each.
fn answers(device: &Device) -> Result<Vec<u64>> {
    // More hidden units than a block of `learn` holds.
    let shape = shape(45, 70);
    let mut rbm: Rbm = random_rbm(shape, 0.5, 1);
    let bytes = random_bytes(12 * 45, 0.3, 2);
    let rows: Rows<'_> = byte_rows(&bytes, 45);
    let data = device.load(rows)?;
    let mut bits = Vec::new();
    for (algorithm, monitor) in [
        (Algorithm::Pcd { n_chains: 3 }, Monitor::PseudoLikelihood),
        (Algorithm::Cd, Monitor::Reconstruction),
        (Algorithm::Pcd { n_chains: 2 }, Monitor::ExactPseudoLikelihood),
    ] {
        let mut trainer =
            Trainer::new(device, shape, Settings { algorithm, k: 3, monitor, seed: 3, ..Settings::default() })?;
        let mut lent = rbm.lend(device)?;
        for batch in [0..6, 6..12] {
            trainer.step(&mut lent, data.range(batch), 0.1)?;
        }
        bits.extend(lent.free_energy(data.range(0..12))?.iter().map(|x| x.to_bits()));
        lent.finish()?;
        bits.extend(trainer.take_report()?.monitor.map(f64::to_bits));
        bits.extend(trainer.chains().hidden()?.iter().map(|x| u64::from(x.to_bits())));
        let view = rbm.view();
        for values in [view.weights(), view.visible_bias(), view.hidden_bias()] {
            bits.extend(values.iter().map(|x| u64::from(x.to_bits())));
        }
    }
    Ok(bits)
}

/// Chains with more units than a strip holds, and with fewer visible units than a cluster has blocks.
fn swept(device: &Device) -> Result<Vec<u64>> {
    let shape = shape(70, 430);
    let resident = random_rbm(shape, 0.2, 4).on(device)?;
    let mut chains = Chains::new(device, shape, 5, Uniforms::new(5, Purpose::Sampling))?;
    chains.sweep(&resident, 3)?;
    Ok(chains.hidden()?.iter().map(|x| u64::from(x.to_bits())).collect())
}

/// The CPU's answers, or a message about CUDA's errors.
fn verdict(program: Program<'_>) -> std::result::Result<(), String> {
    let message = |error: Error| error.to_string();
    let (cuda, cpu) = (Cuda::with_program(0, program).map_err(message)?, Cpu::detect().expect("a CPU").into());
    let expected = (answers(&cpu).expect("answers"), swept(&cpu).expect("chains"));
    for sweeps in [Sweeps::Blocks, Sweeps::Strips, Sweeps::Clusters] {
        let device = cuda.clone().with_sweeps(sweeps).into();
        if (answers(&device).map_err(message)?, swept(&device).map_err(message)?) != expected {
            return Err("a result is not the CPU's".into());
        }
    }
    Ok(())
}

#[test]
fn faults_in_the_kernels_are_caught() {
    catches("faults_in_the_kernels_are_caught", "86", FAULTS, &["1", "3"], verdict);
}

#[test]
fn faults_in_the_kernel_for_clusters_are_caught() {
    catches("faults_in_the_kernel_for_clusters_are_caught", "90", CLUSTER_FAULTS, &["1", "3"], |program| {
        let message = |error: Error| error.to_string();
        let (cuda, cpu) = (Cuda::with_program(0, program).map_err(message)?, Cpu::detect().expect("a CPU").into());
        assert!(cuda.has_clusters(), "the compiler leaves clusters out");
        let found = swept(&cuda.with_sweeps(Sweeps::Clusters).into()).map_err(message)?;
        if found == swept(&cpu).expect("chains") { Ok(()) } else { Err("a result is not the CPU's".into()) }
    });
}

#[test]
fn faults_in_the_gemm_kernels_are_caught() {
    catches("faults_in_the_gemm_kernels_are_caught", "86", GEMM_FAULTS, &["1"], gemm_verdict);
}

#[test]
fn stale_ptx_is_not_loaded() {
    let (_, ptx) = Cuda::kernels();
    let stale = ptx.replacen("// harmonium kernels ", "// harmonium kernels 0", 1);
    match Cuda::with_program(0, Program::Ptx(&stale)) {
        Err(Error::Cuda(CudaError::NoKernels { ptx, .. })) => assert!(ptx.contains("another source"), "{ptx}"),
        Err(Error::Cuda(why @ (CudaError::NoDriver | CudaError::NoDevice { .. }))) => device::skipped(&why.to_string()),
        other => panic!("{other:?}"),
    }
}

/// The committed PTX gives the CPU's bits, and so do kernels that NVRTC compiles from the source. Hosts may lack NVRTC.
#[test]
fn the_committed_ptx_and_the_source() {
    let Some(cuda) = device::cuda() else { return };
    verdict(Program::OwnPtx).expect("as the CPU");
    match verdict(Program::Compiled) {
        Err(why) if why.contains("libnvrtc cannot be loaded") && !device::is_emulated(&cuda) => {
            device::not_applicable(&why);
        }
        verdict => verdict.expect("as the CPU"),
    }
}
