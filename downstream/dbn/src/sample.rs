//! Samples of a stack: Gibbs chains in its top RBM, and one pass down to the inputs.

use crate::net::{Layer, Net};
use harmonium::{Activations, Chains, Dataset, Device, Error, Purpose, Result, Rows, Uniforms, Values};

/// The means of the bottom units, `times` × chains × units: with `steps` Gibbs steps between two times. There is a chain for each of
/// `classes`, which clamps the label to the class. Its first hidden units are drawn given the label alone.
///
/// # Errors
/// [`Error::Argument`] if the net has no layer with a label, or too few classes, and those of [`Chains`].
pub fn sample(
    device: &Device, stack: &Net, classes: &[usize], times: usize, steps: usize, seed: u64,
) -> Result<Vec<f32>> {
    let fail = |expected: String, found: String| Error::Argument { what: "stack", expected, found };
    let (top, below) = stack.layers.split_last().ok_or_else(|| fail("at least one layer".into(), "none".into()))?;
    let label = top.shape.label().ok_or_else(|| fail("labels at its top".into(), top.shape.to_string()))?;
    let mut held = vec![f32::NAN; classes.len() * top.shape.n_visible()];
    for (row, &class) in held.chunks_exact_mut(top.shape.n_visible()).zip(classes) {
        let states = &mut row[label.clone()];
        states.fill(0.0);
        let n = states.len();
        *states.get_mut(class).ok_or_else(|| fail(format!("more than {class} classes"), n.to_string()))? = 1.0;
    }
    let held = Dataset::with_missing(held, top.shape.visible())?;

    let rbm = top.rbm()?.on(device)?;
    let mut chains = Chains::from_visible(&rbm, held.rows(), Uniforms::new(seed, Purpose::Sampling))?;
    chains.hold(held.rows())?;
    let (mut out, mut shown) = (Vec::new(), Activations::default());
    for _ in 0..times {
        chains.sweep(&rbm, steps)?;
        chains.visible(&rbm, &mut shown)?;
        let states = if below.is_empty() { &shown.mean } else { &shown.sample };
        let states = states.chunks_exact(top.shape.n_visible()).flat_map(|row| &row[..top.inputs()]).copied().collect();
        out.extend(down(device, below, states)?);
    }
    Ok(out)
}

/// The means of the bottom units, from a sample of the layer below the top one and means of the layers below.
fn down(device: &Device, layers: &[Layer], mut states: Vec<f32>) -> Result<Vec<f32>> {
    let mut shown = Activations::default();
    for layer in layers.iter().rev() {
        let rbm = layer.rbm()?.on(device)?;
        rbm.propdown(Rows::new(Values::F32(&states), layer.outputs())?, &mut shown)?;
        states.clone_from(&shown.mean);
    }
    Ok(states)
}
