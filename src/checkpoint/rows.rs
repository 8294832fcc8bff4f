//! The entries of a checkpoint's logs, in JSON.

use super::{Epoch, Figures, metadata::Exact};
use crate::diagnostics::{CheckUp, EquilibriumGap};
use serde::{Deserialize, Serialize};

/// Updates, monitor and seconds, and further figures.
#[derive(Serialize, Deserialize)]
pub(super) struct EpochRow(
    u64,
    Option<Exact>,
    Exact,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<FiguresRow>,
);

/// Learning rate and k, then the other figures in the order of their fields.
#[derive(Serialize, Deserialize)]
struct FiguresRow(Exact, usize, [Option<Exact>; 7], Option<u64>);

impl EpochRow {
    pub fn of(epoch: &Epoch) -> Self {
        let Epoch { updates, monitor, seconds, figures } = *epoch;
        let figures = figures.map(|figures| {
            let known = [
                figures.log_z,
                figures.effective_sample_size,
                figures.standard_error,
                figures.log_likelihood,
                figures.validation,
                figures.free_energy_gap,
                figures.update_ratio,
            ];
            let rate = Exact(f64::from(figures.learning_rate));
            FiguresRow(rate, figures.k, known.map(|x| x.map(Exact)), figures.constant_units)
        });
        Self(updates, monitor.map(Exact), Exact(seconds), figures)
    }

    pub fn epoch(self) -> Epoch {
        let Self(updates, monitor, Exact(seconds), figures) = self;
        let figures = figures.map(|FiguresRow(Exact(learning_rate), k, known, constant_units)| {
            let [
                log_z,
                effective_sample_size,
                standard_error,
                log_likelihood,
                validation,
                free_energy_gap,
                update_ratio,
            ] = known.map(|x| x.map(|Exact(x)| x));
            Figures {
                learning_rate: learning_rate as f32,
                k,
                log_z,
                effective_sample_size,
                standard_error,
                log_likelihood,
                validation,
                free_energy_gap,
                update_ratio,
                constant_units,
            }
        });
        Epoch { figures, ..Epoch::new(updates, monitor.map(|Exact(x)| x), seconds) }
    }
}

/// The numbers of a check-up in the order of its fields; the gap is the difference of two of them. The last number, the degrees of
/// freedom of the standard error, is left out if it is infinite, as in files of versions that did not have it, or if there is no
/// standard error.
#[derive(Serialize, Deserialize)]
pub(super) struct CheckUpRow(
    u64,
    Option<Exact>,
    Option<Exact>,
    Option<Exact>,
    Exact,
    Exact,
    Exact,
    Exact,
    Option<Exact>,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<Exact>,
);

impl CheckUpRow {
    pub fn of(check_up: &CheckUp) -> Self {
        let EquilibriumGap { persistent, fresh, gap: _, standard_error, degrees_of_freedom } = check_up.gap;
        let known = |x: f64| Some(Exact(x)).filter(|_| !x.is_nan());
        Self(
            check_up.updates,
            check_up.r_hat.map(Exact),
            check_up.bulk_effective_sample_size.map(Exact),
            check_up.autocorrelation_time.map(Exact),
            Exact(check_up.visible_flip_rate),
            Exact(check_up.hidden_flip_rate),
            Exact(persistent),
            Exact(fresh),
            known(standard_error),
            known(degrees_of_freedom).filter(|Exact(degrees)| degrees.is_finite()),
        )
    }

    pub fn check_up(self) -> CheckUp {
        let known = |x: Option<Exact>| x.map(|Exact(x)| x);
        let Self(
            updates,
            r_hat,
            effective,
            time,
            Exact(visible),
            Exact(hidden),
            Exact(persistent),
            Exact(fresh),
            error,
            degrees,
        ) = self;
        let error = known(error).unwrap_or(f64::NAN);
        let degrees = if error.is_nan() { f64::NAN } else { known(degrees).unwrap_or(f64::INFINITY) };
        CheckUp {
            updates,
            r_hat: known(r_hat),
            bulk_effective_sample_size: known(effective),
            autocorrelation_time: known(time),
            visible_flip_rate: visible,
            hidden_flip_rate: hidden,
            gap: EquilibriumGap {
                persistent,
                fresh,
                gap: persistent - fresh,
                standard_error: error,
                degrees_of_freedom: degrees,
            },
        }
    }
}
