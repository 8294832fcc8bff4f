//! Gradients: the library's closed forms against the derivatives of their objectives.

mod oracle;

use harmonium::{Activations, Algorithm, Device, Gradient, Monitor, Rbm, Settings, Trainer};
use oracle::{
    exact::{Exact, add, mean, product, rows_f64, state},
    flat, for_each_device, generator, random_rbm, random_values, rows, shape,
    statistics::{assert_near, draw_from, gamma, gradient_error, mean_error, pre_error},
    symmetric,
};
use proptest::prelude::*;

/// The step of the central differences, and their errors for Σ w_r F(v_r): the third derivative of F in a parameter is at most max
/// σ'' = 0.0963 of each row, and the sum, in f64, has an error of 1e-15 for each of its terms.
const S: f64 = 1e-3;

fn difference_error(model: &Exact, data: &[Vec<f64>], weights: &[f64]) -> f64 {
    let truncation: f64 = weights.iter().map(|w| w.abs() * 0.0963 * S * S / 6.0).sum();
    let size: f64 = data
        .iter()
        .zip(weights)
        .map(|(x, w)| {
            let bias: f64 = (0..model.nv).map(|i| (model.b(i) * x[i]).abs()).sum();
            w.abs() * (bias + model.hidden_size(x).iter().sum::<f64>() + model.nh as f64)
        })
        .sum();
    truncation + 1e-15 * (model.nv + model.nh + data.len()) as f64 * size / S
}

/// The number of random cases. A failing case is printed, not stored in a file.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn library_gradient(device: &Device, rbm: &Rbm, data: &[f32], weights: &[f32]) -> Vec<f64> {
    let mut gradient = Gradient::zero(rbm.shape());
    // The previous contents must not matter.
    gradient.weights.fill(7.0);
    gradient.visible_bias.fill(7.0);
    gradient.hidden_bias.fill(7.0);
    let resident = rbm.on(device).expect("resident");
    let held = device.load(rows(data, rbm.shape().n_visible())).expect("data");
    resident.free_energy_gradient(held.range(0..weights.len()), weights, &mut gradient).expect("gradient");
    flat(&gradient)
}

/// The gradient of one update, and the chain ends that it used.
fn trainer_gradient(trainer: &mut Trainer, device: &Device, rbm: &Rbm, data: &[f32]) -> (Vec<f64>, Vec<f32>) {
    let nv = rbm.shape().n_visible();
    let mut gradient = Gradient::zero(rbm.shape());
    gradient.weights.fill(7.0);
    let held = device.load(rows(data, nv)).expect("data");
    let resident = rbm.on(device).expect("resident");
    trainer.gradient(&resident, held.range(0..data.len() / nv), &mut gradient).expect("gradient");
    let mut ends = Activations::default();
    trainer.chains().visible(&resident, &mut ends).expect("ends");
    (flat(&gradient), ends.sample)
}

for_each_device! {
    fn free_energy_gradient_is_its_finite_difference(device) {
        let inputs = (1usize..=70, 1usize..=70, 1usize..=9, 0.0..1.0f64, 0.1..3.0f64, any::<u64>());
        proptest!(cases(48), |((nv, nh, n, density, range, seed) in inputs)| {
            let rbm = random_rbm(shape(nv, nh), range / (nv.max(nh) as f64).sqrt(), seed);
            let data = random_values(n * nv, density, seed ^ 1);
            let mut generator = generator(seed);
            let weights: Vec<f32> = (0..n).map(|_| symmetric(&mut generator, 2.0)).collect();
            let found = library_gradient(&device, &rbm, &data, &weights);

            let model = Exact::of(&rbm);
            let data = rows_f64(&data, nv);
            let weights: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
            // The free energy as a function of each parameter, from the rows' pre-activations.
            let objective = |m: &Exact| data.iter().zip(&weights).map(|(x, w)| w * m.free_energy(x)).sum::<f64>();
            // A few parameters represent all, because each costs two evaluations.
            let step = (model.theta.len() / 150).max(1);
            let error = difference_error(&model, &data, &weights);
            let bounds = gradient_error(&model, &data, &weights);
            for at in (seed as usize % step..model.theta.len()).step_by(step) {
                let expected = (objective(&model.moved(at, S)) - objective(&model.moved(at, -S))) / (2.0 * S);
                assert_near(&found[at..=at], &[expected], &[bounds[at] + error], "gradient");
            }
            // The closed form for all parameters.
            let mut closed = vec![0.0; model.theta.len()];
            data.iter().zip(&weights).for_each(|(x, w)| add(&mut closed, *w, &model.free_energy_gradient(x)));
            assert_near(&found, &closed, &bounds, "closed form");
        });
    }

    /// ∂/∂θ of mean F(data) - mean F(chain_end), with chain_end constant.
    fn an_update_follows_the_difference_of_free_energies(device) {
        let inputs = (1usize..=40, 1usize..=40, 1usize..=8, 0usize..=8, 1usize..=4, 0.0..1.0f64, any::<u64>());
        proptest!(cases(40), |((nv, nh, n, chains, k, density, seed) in inputs)| {
            let rbm = random_rbm(shape(nv, nh), 2.0 / (nv.max(nh) as f64).sqrt(), seed);
            let data = random_values(n * nv, density, seed ^ 1);
            let algorithm = if chains == 0 { Algorithm::Cd } else { Algorithm::Pcd { n_chains: chains } };
            let settings = Settings { algorithm, k, monitor: Monitor::None, seed, ..Settings::default() };
            let mut trainer = Trainer::new(&device, rbm.shape(), settings).expect("trainer");
            let model = Exact::of(&rbm);
            for _ in 0..2 {
                let (found, ends) = trainer_gradient(&mut trainer, &device, &rbm, &data);
                prop_assert_eq!(ends.len(), if chains == 0 { data.len() } else { chains * nv });
                prop_assert!(ends.iter().all(|&x| x == 0.0 || x == 1.0));
                let (data, ends) = (rows_f64(&data, nv), rows_f64(&ends, nv));
                let objective = |m: &Exact| mean(&data, |x| m.free_energy(x)) - mean(&ends, |x| m.free_energy(x));
                let weights = |rows: &[Vec<f64>]| vec![1.0 / rows.len() as f64; rows.len()];
                let mut bounds = gradient_error(&model, &data, &weights(&data));
                add(&mut bounds, 1.0, &gradient_error(&model, &ends, &weights(&ends)));
                let error = difference_error(&model, &data, &weights(&data)) + difference_error(&model, &ends, &weights(&ends));
                let step = (model.theta.len() / 100).max(1);
                for at in (seed as usize % step..model.theta.len()).step_by(step) {
                    let expected = (objective(&model.moved(at, S)) - objective(&model.moved(at, -S))) / (2.0 * S);
                    assert_near(&found[at..=at], &[expected], &[bounds[at] + error], "gradient");
                }
                assert_near(&found, &model.cd_gradient(&data, &ends), &bounds, "closed form");
            }
        });
    }

    /// With every visible state as a chain end, weighted by its probability, nothing is random.
    fn all_states_give_the_likelihoods_gradient(device) {
        for (seed, (nv, nh)) in [(3, 4), (8, 4), (5, 7), (1, 2)].into_iter().enumerate() {
            let rbm = random_rbm(shape(nv, nh), 1.5, seed as u64);
            let model = Exact::of(&rbm);
            let data = random_values(6 * nv, 0.6, seed as u64);
            let all = (0..1 << nv).flat_map(|v| state(v, nv)).map(|x| x as f32);
            let rows: Vec<f32> = data.iter().copied().chain(all).collect();
            let weights: Vec<f32> =
                [1.0 / 6.0; 6].into_iter().chain(model.p_v().into_iter().map(|p| -p)).map(|w| w as f32).collect();
            let found = library_gradient(&device, &rbm, &rows, &weights);
            // The weights were rounded once more: one more rounding per term, and `gradient_error` has four to spare.
            let bounds = gradient_error(&model, &rows_f64(&rows, nv), &weights.iter().map(|&w| f64::from(w)).collect::<Vec<_>>());
            assert_near(&found, &model.loss_gradient(&rows_f64(&data, nv)), &bounds, "loss gradient");
        }
    }

    /// Chains drawn from the exact distribution: the mean gradient is that of the likelihood. Each of the 34 components is a mean
    /// of 16 384 independent terms whose variance is known by enumeration. Six standard deviations are exceeded with probability
    /// 2e-9 each, 7e-8 in all (plus rounding errors).
    fn exact_samples_give_the_likelihoods_gradient(device) {
        let (nv, nh, groups, group) = (5, 4, 16, 1024);
        let rbm = random_rbm(shape(nv, nh), 1.0, 5);
        let model = Exact::of(&rbm);
        let data = random_values(8 * nv, 0.6, 5);
        let (p_v, mut generator) = (model.p_v(), generator(55));
        let mut found = vec![0.0; model.theta.len()];
        let mut rounded = vec![0.0; model.theta.len()];
        let weights: Vec<f32> = [1.0 / 8.0; 8].into_iter().chain(vec![-1.0 / group as f32; group]).collect();
        for _ in 0..groups {
            let mut samples = data.clone();
            for _ in 0..group {
                samples.extend(state(draw_from(&p_v, &mut generator), nv).into_iter().map(|x| x as f32));
            }
            add(&mut found, 1.0 / groups as f64, &library_gradient(&device, &rbm, &samples, &weights));
            let weights: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
            add(&mut rounded, 1.0 / groups as f64, &gradient_error(&model, &rows_f64(&samples, nv), &weights));
        }
        let bounds = six_deviations(&model, &p_v, (groups * group) as f64);
        let bounds: Vec<f64> = bounds.iter().zip(rounded).map(|(a, b)| a + b).collect();
        assert_near(&found, &model.loss_gradient(&rows_f64(&data, nv)), &bounds, "mean gradient");
    }

    /// The expectation of CD-k's gradient is also known by enumeration: the start, k steps, and the free energy's gradient at their
    /// end. It changes from almost zero (k = 1) to the likelihood's gradient. Six standard deviations: 2e-9 for each of 11
    /// components and 4 values of k, 9e-8 in all. The samples of one batch are independent given the data. All rows are the same,
    /// so each is a draw from one distribution.
    fn contrastive_divergence_has_the_expected_gradient(device) {
        let (nv, nh, n, updates) = (3, 2, 500, 40);
        let rbm = random_rbm(shape(nv, nh), 1.5, 3);
        let model = Exact::of(&rbm);
        let x = [0.9f32, 0.2, 0.0];
        let data = x.repeat(n);
        let row = rows_f64(&x, nv).remove(0);
        for k in [1, 2, 3, 30] {
            let settings = Settings { algorithm: Algorithm::Cd, k, monitor: Monitor::None, seed: 40 + k as u64, ..Settings::default() };
            let mut trainer = Trainer::new(&device, rbm.shape(), settings).expect("trainer");
            let mut found = vec![0.0; model.theta.len()];
            for _ in 0..updates {
                add(&mut found, 1.0 / updates as f64, &trainer_gradient(&mut trainer, &device, &rbm, &data).0);
            }
            let pairs = model.after_sweeps(&product(&model.p_hidden(&row)), k);
            let ends: Vec<f64> = pairs.chunks_exact(1 << nh).map(|h| h.iter().sum()).collect();
            let mut expected = model.free_energy_gradient(&row);
            for (v, p) in ends.iter().enumerate() {
                add(&mut expected, -p, &model.free_energy_gradient(&state(v, nv)));
            }
            let mut bounds = six_deviations(&model, &ends, (n * updates) as f64);
            let same = vec![row.clone(); n];
            add(&mut bounds, 2.0, &gradient_error(&model, &same, &vec![1.0 / n as f64; n]));
            // The part of the chain ends rounds like that of the data: sums of n terms, all at most 1.
            let ends_rounding = mean_error(pre_error(nv, 10.0)) + gamma(n + 6);
            bounds.iter_mut().for_each(|bound| *bound += ends_rounding);
            assert_near(&found, &expected, &bounds, &format!("CD-{k}"));
        }
    }
}

/// Six standard deviations of the mean of ∂F(v)/∂θ over `n` independent v from the distribution `p`.
fn six_deviations(model: &Exact, p: &[f64], n: f64) -> Vec<f64> {
    let (mut first, mut second) = (vec![0.0; model.theta.len()], vec![0.0; model.theta.len()]);
    for (v, &p) in p.iter().enumerate() {
        let gradient = model.free_energy_gradient(&state(v, model.nv));
        add(&mut first, p, &gradient);
        add(&mut second, p, &gradient.iter().map(|g| g * g).collect::<Vec<_>>());
    }
    first.iter().zip(second).map(|(first, second)| 6.0 * ((second - first * first).max(0.0) / n).sqrt()).collect()
}
