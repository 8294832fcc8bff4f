//! A running log Z against enumeration, along trained models; see tests/library/tracker_visits.rs for single visits.
//!
//! The particles do not influence training, so one path of models serves many trackers. Without resampling, particles are
//! independent, and enumeration gives the exact variance of a weight, from which the bounds are computed.

use crate::oracle::{
    exact,
    exact::{Exact, state},
    generator, random_rbm, rows, shape,
    statistics::visit_error,
    uniform,
};
use harmonium::{
    Algorithm, Cpu, Resident, Settings, Summary, Trainer,
    log_partition::{BaseRate, Schedule, Tracker},
};
use std::sync::OnceLock;

/// The standard normal number that is exceeded with a probability of 1e-9.
const NORMAL_1E_9: f64 = 5.998;

fn cpu() -> Cpu {
    Cpu::detect().expect("a CPU")
}

/// Models of 12 × 5 units at stages of training, their base rate and schedule, and their exact properties.
struct Path {
    residents: Vec<Resident>,
    base_rate: BaseRate,
    schedule: Schedule,
    log_z: Vec<f64>,
    /// The variance of the weight of one particle, relative to the square of its mean, without resampling.
    variance: Vec<f64>,
    /// The greatest error of log Z from the rounding of `f32` up to each visit.
    rounding: Vec<f64>,
}

const UNITS: (usize, usize) = (12, 5);

impl Path {
    /// A model that learns noisy copies of three patterns; `visits` models with `updates` between them.
    fn new(visits: usize, updates: usize, lr: f32) -> Self {
        let mut generator = generator(1);
        let patterns: Vec<bool> = (0..36).map(|_| uniform(&mut generator) < 0.5).collect();
        let noisy = |k: usize| patterns[k % 36] != (uniform(&mut generator) < 0.1);
        let data: Vec<f32> = (0..90 * 12).map(noisy).map(f32::from).collect();
        let data = rows(&data, 12);
        let mut rbm = random_rbm(shape(UNITS.0, UNITS.1), 0.1, 2).on(cpu()).expect("resident");
        let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 30 }, k: 2, ..Settings::default() };
        let mut trainer = Trainer::new(cpu(), rbm.shape(), settings).expect("a trainer");
        let mut residents = vec![rbm.clone()];
        for _ in 0..visits {
            for _ in 0..updates {
                trainer.step(&mut rbm, data, lr).expect("a step");
            }
            residents.push(rbm.clone());
        }
        let schedule = Schedule::from_betas(vec![0.0, 0.5, 1.0]).expect("rises");
        let (base_rate, models) = (BaseRate::uniform(UNITS.0), residents.iter().map(model).collect::<Vec<_>>());
        let log_z: Vec<f64> = models.iter().map(Exact::log_z).collect();
        let variance = variances(&models, &log_z, &base_rate, &schedule);
        let mut off = 0.0;
        let rounding = models.iter().map(|model| {
            off += visit_error(model);
            off
        });
        Self { base_rate, schedule, log_z, variance, rounding: rounding.collect(), residents }
    }

    /// Three updates a visit, so slow that weights are never resampled.
    fn slow() -> &'static Self {
        static PATH: OnceLock<Path> = OnceLock::new();
        PATH.get_or_init(|| Self::new(100, 3, 0.05))
    }

    fn begin(&self, chains: usize, seed: u64) -> Tracker {
        Tracker::begin(&self.residents[0], &self.base_rate, chains, &self.schedule, seed).expect("a tracker")
    }

    /// The error of log Z at each of the models, and the number of resamplings, after which all weights are equal.
    fn errors(&self, chains: usize, seed: u64) -> (Vec<f64>, usize) {
        let mut tracker = self.begin(chains, seed);
        let (mut errors, mut resampled) = (vec![tracker.log_z() - self.log_z[0]], 0);
        for (resident, log_z) in self.residents.iter().zip(&self.log_z).skip(1) {
            tracker.follow(resident).expect("a visit");
            errors.push(tracker.log_z() - log_z);
            resampled += usize::from(tracker.effective_sample_size() == chains as f64);
        }
        (errors, resampled)
    }
}

fn model(resident: &Resident) -> Exact {
    Exact::of(&resident.to_rbm().expect("a copy"))
}

/// E[w²]/E[w]² - 1 at each model, by enumeration: the sums of w and w² over all paths that end in a state propagate by the
/// transition probabilities, and are multiplied by the ratios.
fn variances(models: &[Exact], log_z: &[f64], base_rate: &BaseRate, schedule: &Schedule) -> Vec<f64> {
    let (nv, nh) = UNITS;
    let all: Vec<Vec<f64>> = (0..1 << nv).map(|v| state(v, nv)).collect();
    let first = &models[0];
    let bias: Vec<f64> = base_rate.bias().iter().map(|&a| f64::from(a)).collect();
    let log_z_0: f64 = bias.iter().map(|&a| exact::softplus(a)).sum::<f64>() + nh as f64 * 2f64.ln();
    // The model at a temperature: scaled parameters, with the rest of the visible bias from the base rate.
    let tempered = |beta: f64| {
        let mut model = first.clone();
        model.theta.iter_mut().for_each(|x| *x *= beta);
        model.theta[nv * nh..][..nv].iter_mut().zip(&bias).for_each(|(b, a)| *b += (1.0 - beta) * a);
        model
    };
    let energies = |model: &Exact| all.iter().map(|v| model.free_energy(v)).collect::<Vec<f64>>();
    let grow = |sums: &mut [f64], power: f64, from: &[f64], to: &[f64]| {
        sums.iter_mut().zip(from.iter().zip(to)).for_each(|(sum, (from, to))| *sum *= (power * (from - to)).exp());
    };
    let up = |model: &Exact, sums: &[f64]| {
        let mut out = vec![0.0; 1 << nh];
        for (v, sum) in all.iter().zip(sums) {
            exact::add(&mut out, *sum, &model.p_all_hidden(v));
        }
        out
    };
    let down = |model: &Exact, sums: &[f64]| {
        let mut out = vec![0.0; 1 << nv];
        for (h, sum) in sums.iter().enumerate() {
            exact::add(&mut out, *sum, &model.p_all_visible(h));
        }
        out
    };

    let mut moments = [1.0, 2.0].map(|power| (power, vec![1.0 / (1 << nh) as f64; 1 << nh]));
    for pair in schedule.betas().windows(2) {
        let (from, to) = (tempered(f64::from(pair[0])), tempered(f64::from(pair[1])));
        let (before, after) = (energies(&from), energies(&to));
        for (power, sums) in &mut moments {
            let mut visible = down(&from, sums);
            grow(&mut visible, *power, &before, &after);
            *sums = up(&to, &visible);
        }
    }
    let mut moments = moments.map(|(power, sums)| (power, down(first, &sums)));
    let mut before = energies(first);
    let mut variances = Vec::new();
    for (n, (model, log_z)) in models.iter().zip(log_z).enumerate() {
        let now = energies(model);
        for (power, sums) in &mut moments {
            if n > 0 {
                grow(sums, *power, &before, &now);
                *sums = down(model, &up(model, sums));
            }
        }
        before = now;
        let [first, second] = [&moments[0].1, &moments[1].1].map(|sums| sums.iter().sum::<f64>());
        let ratio = (log_z - log_z_0).exp();
        // The mean weight is Z/Z_0 itself, which checks this enumeration.
        assert!((first / ratio - 1.0).abs() < 1e-9, "{first} {ratio}");
        variances.push(second / (first * first) - 1.0);
    }
    variances
}

/// The mean of 200 × 100 independent weights, which is practically normal; false alarms: 1e-9 each at two ends of 101 models.
#[test]
fn the_mean_weight_is_unbiased() {
    let path = Path::slow();
    let (trackers, chains) = (200, 100);
    let mut sums = vec![0.0; path.log_z.len()];
    for seed in 0..trackers {
        let (errors, resampled) = path.errors(chains, seed);
        errors.iter().zip(&mut sums).for_each(|(error, sum)| *sum += error.exp());
        assert_eq!(resampled, 0);
    }
    for (n, sum) in sums.iter().enumerate() {
        let off = NORMAL_1E_9 * (path.variance[n] / (trackers as usize * chains) as f64).sqrt() + path.rounding[n];
        let mean = sum / trackers as f64;
        assert!((mean - 1.0).abs() <= off, "model {n}: {mean}, allowed ± {off}");
    }
    // Training changed the model; otherwise the test would be void.
    let last = path.log_z.len() - 1;
    assert!(path.variance[last] > 0.05 && (path.log_z[last] - path.log_z[0]).abs() > 0.5, "{:?}", path.log_z[last]);
}

/// One tracker along the whole path; false alarms: 1e-9 each at two ends of 101 models with each of 5 seeds.
#[test]
fn a_tracker_stays_near_log_z() {
    let path = Path::slow();
    let chains = 4000;
    for seed in 100..105 {
        let (errors, resampled) = path.errors(chains, seed);
        assert_eq!(resampled, 0);
        for (n, error) in errors.iter().enumerate() {
            let off = NORMAL_1E_9 * (path.variance[n] / chains as f64).sqrt() + path.rounding[n];
            assert!(
                *error >= (-off).ln_1p() && *error <= off.ln_1p(),
                "seed {seed}, model {n}: off by {error}, allowed {off}"
            );
        }
    }
}

/// On a path with repeated resampling. The ratios scatter by at most a half, so the mean of 1500 is nearly normal: at six standard
/// errors a false alarm is rarer than 1e-6 for all models together.
#[test]
fn resampling_keeps_it_unbiased() {
    let path = Path::new(30, 10, 0.2);
    let (trackers, chains) = (1500, 32);
    let (mut ratios, mut resampled) = (vec![Vec::new(); path.log_z.len()], 0);
    for seed in 0..trackers {
        let (errors, times) = path.errors(chains, seed);
        errors.iter().zip(&mut ratios).for_each(|(error, ratios)| ratios.push(error.exp()));
        resampled += times;
    }
    assert!(resampled > 2 * trackers as usize, "resampled {resampled} times");
    for (n, ratios) in ratios.iter().enumerate() {
        let summary = Summary::of(ratios);
        let off = 6.0 * summary.standard_error() + path.rounding[n];
        assert!((summary.mean - 1.0).abs() <= off, "model {n}: {}, allowed ± {off}", summary.mean);
        assert!(summary.standard_deviation() < 0.5, "model {n}: {summary:?}");
    }
}

/// The same with units of several laws, whose variances are trained too. A tracker that was saved and restored continues to the
/// bit. Six standard errors: a false-alarm rate of 2e-9 if the delta method holds, as it does near 0.1.
#[test]
fn several_laws_are_followed() {
    for laws in ["gaussian:3", "potts:3x4", "binary:2,potts:1x3,gaussian:2"] {
        let visible: harmonium::Segments = laws.parse().expect("laws");
        let data = crate::oracle::laws::random_states(visible, 40, true, 3);
        let data = harmonium::Dataset::of_numbers(data, visible).expect("rows");
        let mut rbm = harmonium::Rbm::from_data(data.rows(), 5, 1).expect("a model").on(cpu()).expect("resident");
        let settings = Settings { monitor: harmonium::Monitor::None, variance: 0.5, ..Settings::default() };
        let mut trainer = Trainer::new(cpu(), rbm.shape(), settings).expect("a trainer");
        let base_rate = BaseRate::fit(data.rows());
        let schedule = Schedule::new(20).expect("a schedule");
        let mut tracker = Tracker::begin(&rbm, &base_rate, 1000, &schedule, 7).expect("a tracker");
        for update in 0..150 {
            trainer.step(&mut rbm, &data, 0.02).expect("a step");
            if update == 75 {
                let again = Tracker::from_state(rbm.shape(), &tracker.state()).expect("a tracker");
                assert_eq!(again.state(), tracker.state());
                tracker = again;
            }
            tracker.follow(&rbm).expect("followed");
        }
        let exact = harmonium::log_partition::exact(rbm.to_rbm().expect("a model").view()).expect("log Z").estimate;
        let error = 6.0 * tracker.standard_error() + 1e-4;
        assert!(tracker.standard_error() < 0.2, "{laws}: {}", tracker.standard_error());
        assert!((tracker.log_z() - exact).abs() < error, "{laws}: {} {exact} {error}", tracker.log_z());
    }
}
