//! Structs that kernels take as parameters, field by field as kernels/*.cu declare them.

use super::buffer::Ptr;

/// `Side` of kernels/layers.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SideArgument {
    pub weights: Ptr<f32>,
    pub bias: Ptr<f32>,
    pub reference: Ptr<f32>,
    pub given: u32,
    pub made: u32,
    pub stride: u32,
}

impl SideArgument {
    /// Without weights, for units whose pre-activations are already computed.
    pub fn of_pre_activations(made: u32, stride: u32) -> Self {
        Self { weights: Ptr::NULL, bias: Ptr::NULL, reference: Ptr::NULL, given: 0, made, stride }
    }

    /// The same direction without biases, for the sums alone: the bias points at the row of zeros.
    pub fn to_sums(self) -> Self {
        let zeros = self.weights.offset(self.given as usize * self.stride as usize);
        Self { bias: zeros, reference: Ptr::NULL, ..self }
    }
}

/// `Rows` of kernels/layers.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RowsArgument {
    pub place: Ptr<u64>,
    pub missing: Ptr<u64>,
    pub rows: u32,
    pub stride: u32,
    pub eight_bit: u32,
}

impl RowsArgument {
    /// No rows.
    pub const NONE: Self = Self { place: Ptr::NULL, missing: Ptr::NULL, rows: 0, stride: 0, eight_bit: 0 };
}

/// `Laws` of kernels/visible.cu.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LawsArgument {
    pub segments: Ptr<u32>,
    pub precision: Ptr<f32>,
    pub reference_precision: Ptr<f32>,
    pub count: u32,
    pub sites: u32,
}

/// `Chains` of kernels/chains.cu.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ChainsArgument {
    pub hidden: Ptr<u32>,
    pub betas: Ptr<f32>,
    pub visible: Ptr<u32>,
    pub visible_pre: Ptr<f32>,
    pub hidden_mean: Ptr<f32>,
}

/// `Statistics` of kernels/learn.cu.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct StatisticsArgument {
    pub rows: RowsArgument,
    pub row_weights: Ptr<f32>,
    pub positive: Ptr<f32>,
    pub visible: Ptr<u32>,
    pub negative: Ptr<f32>,
    pub chains: u32,
    pub positive_scale: f32,
    pub negative_scale: f32,
    pub ends: RowsArgument,
}

impl StatisticsArgument {
    /// Whether the chains' visible units are numbers instead of bits.
    pub fn has_numbers(&self) -> bool {
        self.ends.place.address != 0
    }
}

/// `Parameters` of kernels/learn.cu.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ParametersArgument {
    pub weights: Ptr<f32>,
    pub transposed: Ptr<f32>,
    pub visible_bias: Ptr<f32>,
    pub hidden_bias: Ptr<f32>,
    pub n_visible: u32,
    pub n_hidden: u32,
    pub weights_stride: u32,
    pub transposed_stride: u32,
}

/// `Step` of kernels/learn.cu.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct StepArgument {
    pub update: u32,
    pub lr: f32,
}

/// `Rule` of kernels/descend.cu.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RuleArgument {
    pub visible_offset: Ptr<f32>,
    pub hidden_offset: Ptr<f32>,
    pub hidden_mean: Ptr<f32>,
    pub weights_velocity: Ptr<f32>,
    pub visible_velocity: Ptr<f32>,
    pub hidden_velocity: Ptr<f32>,
    pub centre: Ptr<f32>,
    pub slope: Ptr<f32>,
    pub positive: Ptr<f32>,
    pub negative: Ptr<f32>,
    pub visible_factors: Ptr<f32>,
    pub hidden_factors: Ptr<f32>,
}

/// `Means` of kernels/gemm.cu.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct MeansArgument {
    pub positive: Ptr<f32>,
    pub row_weights: Ptr<f32>,
    pub negative: Ptr<f32>,
    pub rows: u32,
    pub chains: u32,
    pub units: u32,
    pub stride: u32,
    pub positive_scale: f32,
    pub negative_scale: f32,
}
