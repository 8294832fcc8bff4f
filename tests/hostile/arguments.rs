//! Arguments of the library.

use super::{Table, oracle::shape};
use harmonium::{
    Activations, Algorithm, ChainState, Chains, Cpu, Dataset, Error, Gradient, Isa, Monitor, Purpose, Rbm, RbmRef,
    Result, Rows, Settings, Shape, Trainer, Uniforms, Values,
    formats::mnist::Split,
    log_partition, model, monitor,
    raster::{self, Raster, Tiling},
    storage,
};
use std::{ops::Range, path::Path};

#[test]
#[rustfmt::skip]
fn arguments() {
    let mut table = Table::default();
    let cpu = Cpu::detect().expect("a CPU");
    let gemm = crate::oracle::gemm();
    let of = "shape: expected at least one visible and one hidden unit, and at most 2147483647 weights, found ";
    table.case("no visible units", Shape::new(0, 5), &format!("{of}0 × 5"));
    table.case("no hidden units", Shape::new(5, 0), &format!("{of}5 × 0"));
    table.case("2^31 weights", Shape::new(1 << 16, 1 << 15), &format!("{of}65536 × 32768"));
    table.case("2^64 weights", Shape::new(1 << 32, 1 << 32), &format!("{of}4294967296 × 4294967296"));
    let written = "shape: expected visible × hidden units, such as 784 × 500, found ";
    for text in ["", "784", "784 x", "-1 × 5", "784 × 500 × 2", "784 × 5e2", "784\n500"] {
        table.case(text, text.parse::<Shape>(), &format!("{written}{}", text.escape_debug()));
    }
    table.case("a written shape of nothing", "0 × 5".parse::<Shape>(), &format!("{of}0 × 5"));
    table.case("2^128 weights", Shape::new(usize::MAX, usize::MAX), &format!("{of}{0} × {0}", usize::MAX));

    let mut data = Dataset::from_u8(vec![0; 6], 2).expect("data");
    for (rows, found) in [(1..4, "1..4"), (4..4, "4..4"), (Range { start: 2, end: 1 }, "2..1"), (0..usize::MAX, "0..18446744073709551615")] {
        table.case("rows that are not there", data.keep(rows), &format!("rows: expected a range within 0..3, found {found}"));
    }
    assert_eq!(data.len(), 3, "all rows are still there");
    table.case("a row that is not there", data.select(&[0, 3]), "rows: expected numbers below 3, found 3");
    for (order, found) in [(&[0, 1][..], "no row 2"), (&[0, 1, 1], "row 1 twice"), (&[0, 1, 3], "row 3"), (&[2, 1, 0, 1], "row 1 twice"), (&[], "no row 0")] {
        table.case("no order", data.permuted(order), &format!("order: expected each of 3 rows once, found {found}"));
    }
    table.case("no split", "training".parse::<Split>(), "split: expected one of train, validation, test, found training");

    table.case("half a row", Dataset::from_u8(vec![0; 7], 2), "rows: expected 8 values, found 7");
    table.case("rows of nothing", Dataset::from_u8(vec![0; 7], 0), "rows: expected at least one value a row, found none");
    table.case("nothing", Rows::new(Values::F32(&[]), 0), "rows: expected at least one value a row, found none");
    for (value, found) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-0.25, "-0.25"), (1.5, "1.5")] {
        let message = format!("rows[1]: expected a value within [0, 1], found {found}");
        table.case(found, Dataset::from_f32(vec![0.0, value], 2), &message);
    }

    let small = shape(2, 1);
    let parts = |w: &[f32], b: &[f32], c: &[f32]| Rbm::from_parts(small, w.to_vec(), b.to_vec(), c.to_vec());
    table.case("short weights", parts(&[0.0], &[0.0; 2], &[0.0]), "weights: expected 2 values, found 1");
    table.case("long visible bias", parts(&[0.0; 2], &[0.0; 3], &[0.0]), "visible_bias: expected 2 values, found 3");
    table.case("no hidden bias", parts(&[0.0; 2], &[0.0; 2], &[]), "hidden_bias: expected 1 values, found 0");
    table.case("NaN", parts(&[0.0, f32::NAN], &[0.0; 2], &[0.0]), "weights[1]: expected a finite number, found NaN");
    table.case("infinity", RbmRef::from_parts(small, &[0.0; 2], &[0.0; 2], &[f32::INFINITY]), "hidden_bias[0]: expected a finite number, found inf");

    let draws = || Uniforms::new(1, Purpose::Sampling);
    let chains = "n_chains: expected at least 1, and as many as fit in memory, found ";
    for n in [0, 1 << 40, 1 << 61, usize::MAX] {
        table.case("chains", Chains::new(cpu, small, n, draws()), &format!("{chains}{n}"));
        table.case("chains", Chains::new(&gemm, small, n, draws()), &format!("{chains}{n}"));
        let settings = Settings { algorithm: Algorithm::Pcd { n_chains: n }, ..Settings::default() };
        table.case("chains", Trainer::new(cpu, small, settings), &format!("{chains}{n}"));
    }
    let state = |hidden: Vec<u64>, betas: Vec<f32>| ChainState { hidden, betas, uniforms: draws() };
    table.case("no chains", Chains::from_state(cpu, small, &state(vec![], vec![])), &format!("{chains}0"));
    table.case("bits", Chains::from_state(cpu, small, &state(vec![0; 2], vec![1.0])), "chains: expected 1 values, found 2");
    table.case("beta", Chains::from_state(cpu, small, &state(vec![0], vec![f32::NAN])), "betas[0]: expected a finite number, found NaN");
    table.case("a bit", Chains::from_state(cpu, small, &state(vec![2], vec![1.0])), "chains: expected no bit beyond the last hidden unit, found one");
    table.case("k of 0", Trainer::new(cpu, small, Settings { k: 0, ..Settings::default() }), "k: expected at least 1, found 0");

    let mut rbm = Rbm::new(small, 1);
    let resident = rbm.on(cpu).expect("resident");
    let row = Rows::new(Values::U8(&[1, 2]), 2).expect("rows");
    let wide = Rows::new(Values::U8(&[1, 2, 3]), 3).expect("rows");
    let none = Rows::new(Values::U8(&[]), 2).expect("rows");
    let mut out = Activations::default();
    table.case("wide rows", resident.propup(wide, &mut out), "batch: expected rows of 2 values, found rows of 3");
    table.case("no rows", resident.free_energy(none), "batch: expected at least one row, found none");
    table.case("visible for hidden", resident.propdown(row, &mut out), "batch: expected rows of 1 values, found rows of 2");
    table.case("a bit too far", resident.pseudo_log_likelihood_of_bit(row, 2), "bit: expected less than 2, found 2");
    table.case("pairs", rbm.view().energy(row, row), "v and h: expected as many rows of 2 and of 1 values, found 1 rows of 2 and 1 rows of 2");
    let mut gradient = Gradient::zero(shape(3, 1));
    table.case("another gradient", resident.free_energy_gradient(row, &[1.0], &mut gradient), "gradient.weights: expected 2 values, found 3");
    table.case("weights of rows", resident.free_energy_gradient(row, &[], &mut gradient), "weights: expected 1 values, found 0");
    table.case("cross-entropy", monitor::reconstruction_cross_entropy(row, &[0.0]), "pre_activation: expected 2 values, found 1");
    let mut still = Chains::new(cpu, small, 1, draws()).expect("chains");
    table.case("no steps", still.sweep(&resident, 0), "k: expected at least 1, found 0");
    let other = Rbm::new(shape(5, 4), 1).on(cpu).expect("resident");
    table.case("another model", still.sweep(&other, 1), "chains: expected shape 5 × 4, found 2 × 1");

    let elsewhere = rbm.on(&gemm).expect("resident");
    let (here, there) = (resident.device(), elsewhere.device());
    table.case("another device", still.sweep(&elsewhere, 1), &format!("chains: expected on {there}, found on {here}"));

    let mut trainer = Trainer::new(cpu, small, Settings { monitor: Monitor::None, ..Settings::default() }).expect("a trainer");
    let mut lent = rbm.lend(cpu).expect("lent");
    for (lr, found) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        table.case("a rate", trainer.step(&mut lent, row, lr), &format!("lr: expected a finite number, found {found}"));
    }
    table.case("wide rows", trainer.step(&mut lent, wide, 0.1), "batch: expected rows of 2 values, found rows of 3");
    table.case("no rows", trainer.step(&mut lent, none, 0.1), "batch: expected at least one row, found none");
    lent.finish().expect("finished");

    let great = Rbm::new(shape(40, 40), 1);
    let error = log_partition::exact(great.view());
    table.case("2^40 states", error, "exact log Z: expected at most 28 units in the smaller layer, found 40: 2^40 states");
    table.case("an instruction set", Isa::named("mmx"), "instruction set: expected scalar, avx2 or avx512, if this machine supports it, found mmx");
    table.case("images", raster::filters(great.view(), (5, 5), (1, 1), raster::FilterScale::Own), "img_shape: expected height × width of 40 pixels, found 5 × 5");
    let picture: Result<Raster<u8>> = raster::tile_raster_images(&[], &Tiling::new((1 << 20, 1 << 20), (1 << 20, 1 << 20)));
    let found = picture.as_ref().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(matches!(picture, Err(Error::Argument { what: "picture", .. })), "{found}");
    table.case("a folder", model::load(Path::new("/")), "/: Is a directory (os error 21)");
    table.case("no file", model::load(Path::new("no/such")), "no/such: No such file or directory (os error 2)");
    let message = "/dev/null: expected a regular file or nothing, found a folder or a device";
    table.case("a device", storage::write_atomically(Path::new("/dev/null"), |_| Ok(())), message);
    table.judge(75);
}
