//! Visible units of several laws on CUDA with cuBLAS's sums: the results of canonical sums up to rounding. Runs where
//! `tests/cuda.rs` does.
#![cfg(feature = "cuda")]

mod cuda_laws;
mod oracle;

use cuda_laws::{law_rows, model, shapes, states};
use harmonium::{
    Activations, Device, Gradient, Monitor, Result, Settings, Trainer,
    log_partition::{Annealing, BaseRate, Schedule, ais},
};
use oracle::{
    device::{cuda, cuda_gemm},
    random_values, rows,
    statistics::assert_near,
};

/// The largest magnitude.
fn greatest(values: impl IntoIterator<Item = f32>) -> f64 {
    values.into_iter().fold(0.0, |greatest, x| greatest.max(f64::from(x.abs())))
}

/// Half of the distance between neighbouring `f32` near 1: the error of one rounding.
const ROUNDING: f64 = 1.0 / 16_777_216.0;

/// cuBLAS's sums of real numbers: in any order, the error of a sum of n products of factors within a and b is at most n roundings
/// of numbers within n·a·b, for either kind of sums.
#[test]
fn products_give_the_same_up_to_rounding() {
    let (Some(cuda), Some(gemm)) = (cuda(), cuda_gemm()) else { return };
    for (n, shape) in shapes() {
        let (rbm, v) = (model(shape, 300 + n as u64), states(shape.visible(), 3, true, 1));
        let (view, h) = (rbm.view(), random_values(3 * shape.n_hidden(), 0.9, 2));
        let scale = view.visible_log_variance().iter().fold(1.0f64, |most, &log| most.max(f64::from(-log).exp()));
        let (x, w) = (scale * greatest(v.iter().copied()), greatest(view.weights().iter().copied()));
        let bound = |n: usize, x: f64| 2.0 * (n * n + 1) as f64 * (x * w + 1.0) * ROUNDING;
        let (up, down) = (bound(shape.n_visible(), x), bound(shape.n_hidden(), 1.0));
        let ask = |device: &Device| {
            let (resident, mut out) = (rbm.on(device).expect("on"), Activations::default());
            let mut all: Vec<(&str, f64, Vec<f64>)> = Vec::new();
            let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect();
            let (v, h) = (law_rows(&v, shape.visible()), rows(&h, shape.n_hidden()));
            resident.propup(v, &mut out).expect("propup");
            all.push(("up", up, wide(&out.pre_activation)));
            resident.propdown(h, &mut out).expect("propdown");
            all.push(("down", down, wide(&out.pre_activation)));
            // A mean changes by at most the change of the pre-activations of its variable, apart from the elementary functions.
            all.push(("means", 2.0 * down + 8.0 * ROUNDING, wide(&out.mean)));
            let softplus = shape.n_hidden() as f64 * (up + 8.0 * (x * w * shape.n_visible() as f64 + 2.0) * ROUNDING);
            all.push(("free energy", softplus, resident.free_energy(v).expect("free energy")));
            if shape.visible().is_discrete() {
                // Two softplus terms per hidden unit for each state of each variable, its own and the others'.
                let sites = 4.0 * shape.visible().sites() as f64 * softplus + 8.0 * ROUNDING;
                all.push(("pseudo-likelihood", sites, resident.pseudo_log_likelihood(v).expect("pl")));
                all.push(("of a site", sites, resident.pseudo_log_likelihood_of_bit(v, 0).expect("pl of a site")));
            }
            let mut gradient = Gradient::zero(shape);
            resident.free_energy_gradient(v, &[0.5, -1.0, 2.0], &mut gradient).expect("gradient");
            let mean = up + 8.0 * ROUNDING;
            all.push(("weights", 3.5 * x * (mean + 6.0 * ROUNDING), wide(&gradient.weights)));
            let of_weights = shape.n_hidden() as f64 * w * 3.5 * x * (mean + 6.0 * ROUNDING);
            all.push(("log variance", of_weights + 3.5 * x * x * ROUNDING, wide(&gradient.visible_log_variance)));
            all
        };
        let [expected, found] = [cuda.clone(), gemm.clone()].map(|device| ask(&device.into()));
        for ((name, bound, expected), (_, _, found)) in expected.iter().zip(&found) {
            assert_near(found, expected, &vec![*bound; found.len()], &format!("{shape}: {name}"));
        }
    }
}

/// Updates and annealing by products. A draw may fall between two means that differ by rounding, as computed in
/// `tests/cuda_gemm.rs`: one seed of five must agree.
#[test]
fn updates_and_annealing_by_products() {
    let (Some(cuda), Some(gemm)) = (cuda(), cuda_gemm()) else { return };
    for (n, shape) in shapes() {
        let rbm = model(shape, 400 + n as u64);
        let v = states(shape.visible(), 6, false, 4);
        let v = law_rows(&v, shape.visible());
        let ask = |device: &Device, seed: u64| -> Result<(Vec<u64>, Vec<f64>, f64, f64)> {
            let settings = Settings { k: 2, seed, monitor: Monitor::Reconstruction, ..Settings::default() };
            let (mut resident, mut trainer) = (rbm.on(device)?, Trainer::new(device, shape, settings)?);
            let (mut gradient, mut visible) = (Gradient::zero(shape), Activations::default());
            trainer.gradient(&resident, v, &mut gradient)?;
            trainer.chains().visible(&resident, &mut visible)?;
            let x = greatest(visible.sample.iter().copied());
            let hidden = trainer.chains().state()?.hidden;
            trainer.step(&mut resident, v, 0.125)?;
            let mut numbers = [gradient.weights, gradient.visible_bias, gradient.hidden_bias].concat();
            numbers.extend(resident.to_rbm()?.into_parts().0);
            let annealing = Annealing { runs: 2, schedule: Schedule::new(5)?, seed, ..Annealing::default() };
            let log_z = ais(&rbm.on(device)?, &BaseRate::fit(v), &annealing)?.estimate;
            Ok((hidden, numbers.into_iter().map(f64::from).collect(), x, log_z))
        };
        let agrees = |seed: u64| {
            let [(hidden, expected, x, log_z), (other, found, _, other_log_z)] =
                [cuda.clone(), gemm.clone()].map(|device| ask(&device.into(), seed).expect("answers"));
            // Numbers within s·x, whose sums over 6 rows and 20 chains differ by their roundings and by those of the means.
            let x = x.max(3.0) * 4.1;
            let mean = 2.0 * ((shape.n_visible().pow(2) + 9) as f64) * (x + 1.0) * ROUNDING;
            let bound = 2.0 * (x * mean + mean + 26.0 * x * ROUNDING);
            let log_bound = 6.0 * (shape.n_visible() + shape.n_hidden()) as f64 * x * x * mean;
            let near = expected.iter().zip(&found).all(|(a, b)| (a - b).abs() <= bound);
            hidden == other && near && (log_z - other_log_z).abs() <= log_bound.min(0.5)
        };
        assert!((1..=5).any(agrees), "{shape}: no seed of five agrees");
    }
}
