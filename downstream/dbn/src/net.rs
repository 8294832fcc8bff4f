//! Layers that own their parameters, and their files.

use harmonium::{
    Error, Rbm, RbmMut, RbmRef, Result, Shape,
    model::{self, Extras},
    storage::create_folder,
};
use std::path::{Path, PathBuf};

/// h = f(xW + c), f being σ or, in the layer on top of a classifier, softmax.
///
/// The same buffers are an RBM. The net does not use its visible bias b. If the visible layer ends with a label, the label's
/// weights are the last rows of W, and x are the units before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The shape of the RBM.
    pub shape: Shape,
    /// W, visible × hidden units, row-major.
    pub weights: Vec<f32>,
    /// b, one for each visible unit.
    pub visible_bias: Vec<f32>,
    /// c, one for each hidden unit.
    pub hidden_bias: Vec<f32>,
}

impl Layer {
    /// A layer that takes ownership of an RBM's buffers.
    pub fn from_rbm(rbm: Rbm) -> Self {
        let shape = rbm.shape();
        let (weights, visible_bias, hidden_bias) = rbm.into_parts();
        Self { shape, weights, visible_bias, hidden_bias }
    }

    /// A layer whose parameters are 0.
    ///
    /// # Errors
    /// Those of [`Shape::new`].
    pub fn zero(inputs: usize, outputs: usize) -> Result<Self> {
        let shape = Shape::new(inputs, outputs)?;
        let (weights, visible_bias, hidden_bias) = (vec![0.0; inputs * outputs], vec![0.0; inputs], vec![0.0; outputs]);
        Ok(Self { shape, weights, visible_bias, hidden_bias })
    }

    /// The number of inputs x.
    pub fn inputs(&self) -> usize {
        self.shape.label().map_or(self.shape.n_visible(), |label| label.start)
    }

    /// The number of outputs h.
    pub fn outputs(&self) -> usize {
        self.shape.n_hidden()
    }

    /// The rows of W for x, inputs × outputs.
    pub fn input_weights(&self) -> &[f32] {
        &self.weights[..self.inputs() * self.outputs()]
    }

    /// [`input_weights`](Self::input_weights), mutable.
    pub fn input_weights_mut(&mut self) -> &mut [f32] {
        let n = self.inputs() * self.outputs();
        &mut self.weights[..n]
    }

    /// The buffers as an RBM, read-only.
    ///
    /// # Errors
    /// [`Error::Value`] if a parameter is not finite.
    pub fn rbm(&self) -> Result<RbmRef<'_>> {
        RbmRef::from_parts(self.shape, &self.weights, &self.visible_bias, &self.hidden_bias)
    }

    /// The buffers as an RBM, mutable for training.
    ///
    /// # Errors
    /// [`Error::Value`] if a parameter is not finite.
    pub fn rbm_mut(&mut self) -> Result<RbmMut<'_>> {
        RbmMut::from_parts(self.shape, &mut self.weights, &mut self.visible_bias, &mut self.hidden_bias)
    }
}

/// Layers from bottom to top.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Net {
    /// The layers. Each has as many inputs as the one below has outputs.
    pub layers: Vec<Layer>,
    /// The names of the classes.
    pub classes: Vec<String>,
}

impl Net {
    /// Adds a top layer of softmax units, one for each class, with all parameters 0.
    ///
    /// # Errors
    /// [`Error::Argument`] without layers or classes.
    pub fn add_classes(&mut self) -> Result<()> {
        let top = self.layers.last().map_or(0, Layer::outputs);
        self.layers.push(Layer::zero(top, self.classes.len())?);
        Ok(())
    }

    /// Checks that the net fits the number of values in a row and these classes.
    ///
    /// # Errors
    /// [`Error::Argument`] if it does not.
    pub fn check(&self, inputs: usize, classes: &[String]) -> Result<()> {
        let found = self.layers.first().map_or(0, Layer::inputs);
        if found != inputs {
            let (expected, found) = (format!("{inputs} inputs"), found.to_string());
            return Err(Error::Argument { what: "net", expected, found });
        }
        if self.classes != classes {
            let (expected, found) = (format!("the classes {}", classes.join(", ")), self.classes.join(", "));
            return Err(Error::Argument { what: "net", expected, found });
        }
        Ok(())
    }

    /// Copies the parameters of a net of the same shape into the existing buffers.
    pub fn copy_from(&mut self, other: &Net) {
        for (to, from) in self.layers.iter_mut().zip(&other.layers) {
            to.weights.copy_from_slice(&from.weights);
            to.visible_bias.copy_from_slice(&from.visible_bias);
            to.hidden_bias.copy_from_slice(&from.hidden_bias);
        }
    }

    /// Writes `folder`/layer-1.safetensors and so on: model files of harmonium, which its command reads too.
    ///
    /// # Errors
    /// [`Error::File`] with the message of the operating system.
    pub fn save(&self, folder: &Path) -> Result<()> {
        create_folder(folder)?;
        for (n, layer) in self.layers.iter().enumerate() {
            let names = if layer.shape.label().is_some() { self.classes.clone() } else { Vec::new() };
            model::save_with(layer.rbm()?, &Extras::new(None, names), &file(folder, n))?;
        }
        Ok(())
    }

    /// Reads the files of [`save`](Self::save) of a stack whose top layer has labels.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] if there is no file, a file cannot be read, the layers do not fit each other, or the last
    /// one has no labels.
    pub fn load(folder: &Path) -> Result<Self> {
        let mut net = Self::default();
        while net.layers.is_empty() || file(folder, net.layers.len()).exists() {
            let path = file(folder, net.layers.len());
            let fail = |expected, found| Error::Format { source_name: path.display().to_string(), expected, found };
            let (rbm, extras) = model::load_with(&path)?;
            let layer = Layer::from_rbm(rbm);
            let below = net.layers.last().map_or(layer.inputs(), Layer::outputs);
            if below != layer.inputs() {
                let expected = format!("{below} visible units, as many as the layer below has hidden ones");
                return Err(fail(expected, layer.inputs().to_string()));
            }
            net.classes = extras.labels;
            net.layers.push(layer);
        }
        match net.classes.is_empty() {
            true => Err(Error::Format {
                source_name: folder.display().to_string(),
                expected: "layers of which the last one has labels".into(),
                found: "none there".into(),
            }),
            false => Ok(net),
        }
    }
}

fn file(folder: &Path, n: usize) -> PathBuf {
    folder.join(format!("layer-{}.safetensors", n + 1))
}
