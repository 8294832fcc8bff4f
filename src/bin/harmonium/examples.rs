//! The examples at the end of each command's help.
//!
//! They work in a folder with MNIST in data/mnist, after `harmonium train`. Names in capitals stand for the user's own files.

pub const ALL: &str = "\
Examples:
  harmonium                          Show what to do next
  harmonium train                    Train on MNIST as the Deep Learning Tutorials do
  harmonium train --recipe density --data FILE --minutes 2
  harmonium evaluate harmonium-out/model.safetensors
  harmonium COMMAND --help           List the options of a command";

pub const TRAIN: &str = "\
Examples:
  harmonium train
  harmonium train --recipe density --minutes 2 --out better
  harmonium train --recipe density --data FILE.csv --validation 0.1 --keep best
  harmonium train --recipe features --hidden 1000
  harmonium train --visible gaussian:64 --scale standard --data FILE.npy
  harmonium train --resume harmonium-out --epochs 30

The folder of --out receives model.safetensors, log.csv, checkpoint.safetensors, curve.svg and images.";

pub const SAMPLE: &str = "\
Examples:
  harmonium sample harmonium-out/model.safetensors
  harmonium sample harmonium-out/model.safetensors --start random --temper 20
  harmonium sample harmonium-out/model.safetensors --clamp 0-391=0 --means --out lower.png
  harmonium sample harmonium-out/model.safetensors --chains 1000 --rows 1 --out samples.npy";

pub const IMPUTE: &str = "\
Examples:
  harmonium impute harmonium-out/model.safetensors --data FILE.csv --out imputed.csv
  harmonium impute harmonium-out/model.safetensors --data FILE.npy --draws 10000";

pub const EVALUATE: &str = "\
Examples:
  harmonium evaluate harmonium-out/model.safetensors
  harmonium evaluate harmonium-out/model.safetensors --split train --limit 1000 --json
  harmonium evaluate harmonium-out/model.safetensors --data TEST.npy --train TRAINING.npy
  harmonium evaluate harmonium-out/model.safetensors --log-z none";

pub const TRANSFORM: &str = "\
Examples:
  harmonium transform harmonium-out/model.safetensors --split train --out features.npy
  harmonium transform harmonium-out/model.safetensors --data FILE.npy --sample --out bits.npy";

pub const SCORE: &str = "\
Examples:
  harmonium score harmonium-out/model.safetensors
  harmonium score harmonium-out/model.safetensors --data FILE.npy --log-z bracket --out scores.csv";

pub const CLASSIFY: &str = "\
Examples:
  harmonium train --labels own --hybrid 0.01 --out labelled
  harmonium classify labelled/model.safetensors
  harmonium classify labelled/model.safetensors --data FILE.csv --label-column -1 --out labels.csv";

pub const DIAGNOSE: &str = "\
Examples:
  harmonium diagnose harmonium-out/model.safetensors
  harmonium diagnose harmonium-out/model.safetensors --steps 20000 --plot traces.svg";

pub const FILTERS: &str = "\
Examples:
  harmonium filters harmonium-out/model.safetensors
  harmonium filters harmonium-out/model.safetensors --tile 5x20 --scale common --out filters.png";

pub const REPORT: &str = "\
Examples:
  harmonium report harmonium-out
  harmonium report harmonium-out --data FILE.npy";

pub const INFO: &str = "\
Examples:
  harmonium info harmonium-out/model.safetensors
  harmonium info harmonium-out/model.safetensors --data data/mnist --json";

pub const DATA: &str = "\
Examples:
  harmonium data
  harmonium data data/mnist
  harmonium data FILE.csv --label-column class";

pub const COMPLETIONS: &str = "\
Examples:
  harmonium completions bash >> ~/.bash_completion
  harmonium completions fish > ~/.config/fish/completions/harmonium.fish";

pub const MAN: &str = "\
Examples:
  harmonium man
  man ./man/harmonium-train.1";

pub const IMPORT: &str = "\
Examples:
  harmonium import FILE.npz --out model.safetensors";

pub const EXPORT: &str = "\
Examples:
  harmonium export harmonium-out/model.safetensors --format sklearn --out model.npz";
