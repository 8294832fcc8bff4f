//! The command as scripts use it: exit statuses, messages, files. Runs the built program on data that the tests write.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Creates an empty folder for a test.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("command").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// Asserts success without messages on standard error; returns standard output.
    #[track_caller]
    fn fine(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""));
        self.stdout
    }

    /// Asserts this exit status and one line of error that contains all of this.
    #[track_caller]
    fn fails(self, status: i32, says: &[&str]) {
        assert_eq!((self.status, self.stdout.as_str()), (status, ""), "{}", self.stderr);
        let line = self.stderr.strip_prefix("error: ").expect("begins with `error: `");
        assert_eq!(line.find('\n'), Some(line.len() - 1), "not one line: {line:?}");
        for part in says {
            assert!(line.contains(part), "{line:?} does not say {part:?}");
        }
    }
}

/// Runs the command in a folder, with arguments separated by spaces.
fn run(folder: &Path, arguments: &str) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harmonium"));
    let output = command.current_dir(folder).args(arguments.split_whitespace()).output().unwrap();
    Outcome {
        status: output.status.code().expect("not killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `n` images of bars, as an IDX file.
fn idx(n: usize, (height, width): (usize, usize)) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3];
    bytes.extend([n, height, width].iter().flat_map(|&size| (size as u32).to_be_bytes()));
    let pixel = |image: usize, x: usize| if (image + x).is_multiple_of(width) { 255 } else { (image % 16) as u8 };
    bytes.extend((0..n).flat_map(|image| (0..height * width).map(move |i| pixel(image, i % width))));
    bytes
}

/// A folder with 60 training and 30 test images of 4 × 4 pixels in `data`.
fn with_data(name: &str) -> PathBuf {
    let folder = folder(name);
    fs::create_dir(folder.join("data")).unwrap();
    fs::write(folder.join("data/train-images-idx3-ubyte"), idx(60, (4, 4))).unwrap();
    fs::write(folder.join("data/t10k-images-idx3-ubyte"), idx(30, (4, 4))).unwrap();
    folder
}

/// The running likelihood is off: tests/commands/recipes.rs tests it.
const SMALL: &str =
    "train --likelihood off --data data --hidden 8 --epochs 2 --batch-size 10 --k 2 --chains 5 --out out";

/// Height and width of a PNG file.
fn size(path: PathBuf) -> (u32, u32) {
    let bytes = fs::read(&path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
    let side = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(bytes[1..4], *b"PNG");
    (side(20), side(16))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn train_writes_everything() {
    let folder = with_data("train");
    let said = run(&folder, SMALL).fine();
    for part in [
        "PCD-2 with 5 chains",
        "epoch 0: pseudo-likelihood -",
        "epoch 1: pseudo-likelihood -",
        "training took 0.",
        " s\nresults are in out",
    ] {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
    assert!(!said.contains("tutorial"), "{said}");
    let out = folder.join("out");
    #[rustfmt::skip]
    let expected = [
        "chains_at_epoch_0.png", "chains_at_epoch_1.png", "checkpoint.safetensors", "curve.svg", "filters_at_epoch_0.png",
        "filters_at_epoch_1.png", "log.csv", "model.safetensors", "samples.png",
    ];
    assert_eq!(names(&out), expected);
    assert_eq!(size(out.join("filters_at_epoch_1.png")), (9, 19), "8 filters on 2 × 4 tiles");
    assert_eq!(size(out.join("chains_at_epoch_0.png")), (9, 14), "5 chains on 2 × 3 tiles");
    assert_eq!(size(out.join("samples.png")), (51, 99));

    let rbm = harmonium::model::load(&out.join("model.safetensors")).unwrap();
    assert_eq!((rbm.shape().n_visible(), rbm.shape().n_hidden()), (16, 8));
    let log = fs::read_to_string(out.join("log.csv")).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0][..4], ["epoch", "updates", "monitor", "seconds"]);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{log}");
    assert_eq!((lines[1][0], lines[1][1], lines[2][0], lines[2][1]), ("0", "6", "1", "12"));
    let number = |line: usize, column: usize| lines[line][column].parse::<f64>().unwrap();
    assert!(number(1, 2) < 0.0 && number(2, 2) < 0.0 && number(1, 3) <= number(2, 3));
    let curve = fs::read_to_string(out.join("curve.svg")).unwrap();
    assert!(curve.starts_with("<svg ") && curve.ends_with("</svg>\n") && !curve.contains("tutorial"));
}

#[test]
fn as_many_samples_as_asked_for() {
    let folder = with_data("samples");
    run(&folder, &format!("{SMALL} --samples 0")).fine();
    assert!(!folder.join("out/samples.png").exists());
    run(&folder, &format!("{SMALL} --samples 3")).fine();
    assert_eq!(size(folder.join("out/samples.png")), (16, 99));
    let most = (1 << 28) / (20 * 16);
    run(&folder, &format!("{SMALL} --samples {}", most + 1)).fails(1, &["--samples", &format!("at most {most}")]);
    // Resumed runs print this too.
    run(&folder, &format!("{SMALL}-more --stop-after 7")).fine();
    run(&folder, "train --resume out-more --samples 2").fine();
    assert_eq!(size(folder.join("out-more/samples.png")), (11, 99));
}

#[test]
fn quiet_is_quiet() {
    let folder = with_data("quiet");
    assert_eq!(run(&folder, &format!("{SMALL} --quiet")).fine(), "");
    run(&folder, "train --quiet --data nowhere").fails(1, &["nowhere"]);
}

#[test]
fn the_same_seed_gives_the_same_files() {
    let folder = with_data("seed");
    for (out, more) in [("a", "--threads 1"), ("b", "--threads 2"), ("c", "--threads 3"), ("d", "--seed 124")] {
        run(&folder, &format!("{SMALL}-{out} {more}")).fine();
    }
    let read = |out: &str, name: &str| fs::read(folder.join(format!("out-{out}")).join(name)).unwrap();
    for name in ["model.safetensors", "samples.png", "filters_at_epoch_1.png", "chains_at_epoch_1.png", "curve.svg"] {
        assert!(read("a", name) == read("b", name) && read("a", name) == read("c", name), "{name} depends on threads");
        assert!(read("a", name) != read("d", name), "{name} does not depend on the seed");
    }
    // `sample` with defaults draws the same image as `train`.
    run(&folder, "sample out-a/model.safetensors --data data").fine();
    assert_eq!(fs::read(folder.join("samples.png")).unwrap(), read("a", "samples.png"));
    run(&folder, "filters out-a/model.safetensors").fine();
    assert_eq!(fs::read(folder.join("filters.png")).unwrap(), read("a", "filters_at_epoch_1.png"));
}

#[test]
fn every_algorithm_and_monitor() {
    let folder = with_data("monitors");
    let base = "train --likelihood off --data data --hidden 8 --epochs 1 --batch-size 10 --k 1 --out out";
    let said = run(&folder, &format!("{base} --algorithm cd")).fine();
    assert!(said.contains("CD-1,") && said.contains("reconstruction -"), "{said}");
    assert_eq!(size(folder.join("out/chains_at_epoch_0.png")), (14, 19), "10 chains on 3 × 4 tiles");
    for (monitor, name) in [
        ("pl", "pseudo-likelihood -"),
        ("pl-exact", "exact pseudo-likelihood -"),
        ("reconstruction", "reconstruction -"),
    ] {
        for algorithm in ["pcd", "cd"] {
            let said = run(&folder, &format!("{base} --algorithm {algorithm} --monitor {monitor} --device cpu")).fine();
            assert!(said.contains(&format!("epoch 0: {name}")), "{said}");
        }
    }
    fs::remove_dir_all(folder.join("out")).unwrap();
    run(&folder, &format!("{base} --monitor none")).fine();
    assert!(!folder.join("out/curve.svg").exists());
    let log = fs::read_to_string(folder.join("out/log.csv")).unwrap();
    assert!(log.starts_with("epoch,updates,monitor,seconds,") && log.contains("\n0,6,,"), "{log}");
}

#[test]
fn data_in_every_form() {
    use std::io::Write;
    let folder = with_data("data");
    let small = "train --hidden 3 --epochs 1 --batch-size 10 --k 1 --quiet --out out --data";

    // Labels are optional, but if present there must be one for each row.
    let labels = |n: usize| [&[0, 0, 8, 1, 0, 0, 0, n as u8][..], &vec![7; n]].concat();
    fs::write(folder.join("data/train-labels-idx1-ubyte"), labels(60)).unwrap();
    fs::write(folder.join("data/t10k-labels.idx1-ubyte"), labels(30)).unwrap();
    run(&folder, &format!("{small} data")).fine();

    // Gzipped, without test rows: chains start at the 12 training rows.
    fs::create_dir(folder.join("packed")).unwrap();
    let file = fs::File::create(folder.join("packed/train-images-idx3-ubyte.gz")).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    encoder.write_all(&idx(12, (3, 5))).unwrap();
    encoder.finish().unwrap();
    run(&folder, &format!("{small} packed")).fine();
    assert_eq!(size(folder.join("out/samples.png")), (41, 71), "12 chains of 3 × 5 pixels, as the file says");

    // One IDX file.
    run(&folder, &format!("{small} data/t10k-images-idx3-ubyte")).fine();
    // One npy file.
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (10, 9), }\n";
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend((0..90).map(|x| x as u8 * 2));
    fs::write(folder.join("a.npy"), &npy).unwrap();
    run(&folder, &format!("{small} a.npy")).fine();
    assert_eq!(size(folder.join("out/samples.png")), (41, 39), "10 chains of 3 × 3 pixels");

    // Only the first 50 000 rows of a folder's training file are training rows.
    fs::create_dir(folder.join("large")).unwrap();
    fs::write(folder.join("large/train-images-idx3-ubyte"), idx(50_010, (1, 4))).unwrap();
    run(&folder, &format!("{small} large --limit 50001"))
        .fails(1, &["--limit", "at most 50000", "large", "found 50001"]);
    run(&folder, &format!("{small} large/train-images-idx3-ubyte --limit 50011"))
        .fails(1, &["--limit", "at most 50010"]);
    run(&folder, &format!("{small} data --limit 9")).fails(1, &["--batch-size", "at most 9", "found 10"]);
    run(&folder, &format!("{small} data --limit 10")).fine();
}

#[test]
fn missing_data_names_the_expected_files() {
    let folder = folder("missing");
    run(&folder, "train").fails(
        1,
        &[
            "data/mnist",
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte.gz",
            "--data",
        ],
    );
    assert_eq!(names(&folder), [""; 0], "no folder is made for a run that cannot start");
    fs::create_dir(folder.join("data")).unwrap();
    run(&folder, "train --data data").fails(1, &["data", "train-images-idx3-ubyte.gz"]);
}

#[test]
fn rows_that_are_not_square() {
    let folder = folder("oblong");
    let mut flat = vec![0, 0, 8, 2];
    flat.extend([20u32, 6].iter().flat_map(|size| size.to_be_bytes()));
    flat.extend((0..120).map(|x| x as u8));
    fs::write(folder.join("flat"), flat).unwrap();
    let small = "train --likelihood off --data flat --hidden 3 --epochs 2 --batch-size 10 --k 1 --out out";

    let outcome = run(&folder, small);
    assert_eq!(outcome.status, 0);
    assert_eq!(outcome.stderr.matches("warning").count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("no images") && outcome.stderr.contains("--image"), "{}", outcome.stderr);
    assert_eq!(names(&folder.join("out")), ["checkpoint.safetensors", "curve.svg", "log.csv", "model.safetensors"]);
    assert_eq!(run(&folder, &format!("{small} --quiet")).fine(), "");

    run(&folder, "filters out/model.safetensors").fails(1, &["--image", "6 values"]);
    run(&folder, "sample out/model.safetensors --data flat --steps 1").fails(1, &["--image", "6 values"]);
    run(&folder, &format!("{small} --image 2x4")).fails(1, &["--image", "6 pixels", "found 2x4"]);
    run(&folder, &format!("{small} --image 2x3")).fine();
    assert_eq!(size(folder.join("out/filters_at_epoch_1.png")), (2, 11), "3 filters on 1 × 3 tiles");
    run(&folder, "filters out/model.safetensors --image 3x2 --tile 1x2 --out f.png").fine();
    assert_eq!(size(folder.join("f.png")), (3, 5));
    run(&folder, "sample out/model.safetensors --data flat --image 1x6 --chains 3 --rows 2 --steps 5 --out s.png")
        .fine();
    assert_eq!(size(folder.join("s.png")), (5, 20));
}

#[test]
fn divergence_to_infinity_is_an_error() {
    let folder = with_data("rate");
    run(&folder, &format!("{SMALL} --quiet --lr 3e38")).fails(1, &["--lr", "finite", "found 3e38"]);
    assert!(!folder.join("out/model.safetensors").exists());
}

/// Parameters stay finite for a while, but are so large that rounding hides every difference.
#[test]
fn divergence_to_huge_numbers_is_an_error() {
    let folder = with_data("absurd");
    for (lr, monitor) in [("3e37", "pl"), ("1e37", "pl-exact"), ("1e37", "reconstruction")] {
        for algorithm in ["pcd", "cd"] {
            let options = SMALL.replace(" --chains 5", "");
            let train = format!("{options} --quiet --algorithm {algorithm} --monitor {monitor} --lr {lr}");
            run(&folder, &train)
                .fails(1, &["--lr", "keep all parameters finite", &format!("found {lr}: in epoch 0"), "nats a row"]);
            assert!(!folder.join("out/model.safetensors").exists());
        }
    }
}

/// One warning only.
#[test]
fn a_model_that_does_not_learn_gets_a_warning() {
    let folder = with_data("useless");
    let outcome = run(&folder, &format!("{SMALL} --monitor pl-exact --epochs 4 --lr 1000").replace("--epochs 2 ", ""));
    assert_eq!((outcome.status, outcome.stderr.lines().count()), (0, 1), "{}", outcome.stderr);
    let says = ["warning: epoch 0: exact pseudo-likelihood -", "even odds for every unit give -11.09", "--lr 1000"];
    assert!(says.iter().all(|part| outcome.stderr.contains(part)), "{}", outcome.stderr);
    // A small rate is slow but no error.
    run(&folder, &format!("{SMALL} --monitor pl-exact --lr 0.001")).fine();
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_fails_before_training() {
    use std::os::unix::fs::PermissionsExt;
    let folder = with_data("read-only");
    let out = folder.join("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o555)).unwrap();
    // Permissions do not bind root.
    let stopped = fs::write(out.join("probe"), "").is_err();
    if stopped {
        // With so many epochs, the test would never end if training started.
        run(&folder, &format!("{SMALL} --epochs 2000000000").replace("--epochs 2 ", "")).fails(1, &["out"]);
    }
    fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).unwrap();
    // This holds for every user: a file has the folder's name.
    fs::remove_dir_all(&out).unwrap();
    fs::write(&out, "").unwrap();
    run(&folder, &format!("{SMALL} --epochs 2000000000").replace("--epochs 2 ", "")).fails(1, &["out", "folder"]);
}

#[test]
fn info_prints_statistics() {
    let folder = folder("info");
    let shape = harmonium::Shape::new(2, 2).unwrap();
    let rbm = harmonium::Rbm::from_parts(shape, vec![1.0, 1.0, 3.0, 3.0], vec![0.5, 0.5], vec![-1.0, 1.0]).unwrap();
    harmonium::model::save(rbm.view(), &folder.join("m")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&run(&folder, "info m --json").fine()).unwrap();
    let expected = serde_json::json!({
        "file": "m",
        "n_visible": 2,
        "n_hidden": 2,
        "visible": "binary:2",
        "parameters": 8,
        "weights": { "min": 1.0, "max": 3.0, "mean": 2.0, "standard_deviation": 1.0 },
        "visible_bias": { "min": 0.5, "max": 0.5, "mean": 0.5, "standard_deviation": 0.0 },
        "hidden_bias": { "min": -1.0, "max": 1.0, "mean": 0.0, "standard_deviation": 1.0 },
    });
    assert_eq!(json, expected);
    let said = run(&folder, "info m").fine();
    assert!(said.contains("2 visible and 2 hidden units, 8 parameters") && said.contains("weights"), "{said}");
}

#[test]
fn help_and_version() {
    let folder = folder("help");
    assert_eq!(run(&folder, "--version").fine(), concat!("harmonium ", env!("CARGO_PKG_VERSION"), "\n"));
    for (command, options) in [
        ("--help", &["train", "sample", "filters", "info"][..]),
        (
            "train --help",
            &[
                "--data",
                "--hidden",
                "--epochs",
                "--batch-size",
                "--lr",
                "--algorithm",
                "--k",
                "--chains",
                "--monitor",
                "--limit",
                "--seed",
                "--threads",
                "--device",
                "--out",
                "--quiet",
                "[default: 500]",
                "[default: 15]",
                "[default: 20]",
                "[default: 0.1]",
                "[default: pcd]",
                "[default: 123]",
                "[default: data/mnist]",
                "[default: harmonium-out]",
            ],
        ),
        (
            "sample --help",
            &["--data", "--chains", "--rows", "--steps", "--seed", "--threads", "--out", "[default: 1000]"],
        ),
        ("filters --help", &["--image", "--tile", "--out", "--scale <own|common>", "[default: 10x10, or"]),
        ("info --help", &["--json"]),
    ] {
        let said = run(&folder, command).fine();
        for option in options {
            assert!(said.contains(option), "{command} lacks {option}");
        }
    }
}

/// Without arguments, the command lists what to do next; the list depends on the files in the folder.
#[test]
fn what_to_do_next() {
    let folder = folder("next");
    let without = run(&folder, "").fine();
    assert!(without.contains("harmonium data [FILE]") && without.contains("Commands: train, sample, "), "{without}");
    assert!(!without.contains("report harmonium-out") && !without.contains("MNIST"), "{without}");
    fs::create_dir_all(folder.join("harmonium-out")).unwrap();
    fs::write(folder.join("harmonium-out/model.safetensors"), "").unwrap();
    assert!(run(&folder, "").fine().contains("harmonium report harmonium-out"));
}

/// `data` lists public data sets, or prints how a file is read.
#[test]
fn public_data_and_how_files_are_read() {
    let folder = folder("sources");
    assert!(run(&folder, "data").fine().contains("https://github.com/arranger1044/DEBD"));
    fs::write(folder.join("bits.csv"), "a,b,c\n0,1,0\n1,1,0\n").unwrap();
    let expected = "bits.csv: 2 rows of 3 values\nread as 2 × 3, commas between fields, the first line names the columns\nunits: binary:3\n";
    assert_eq!(run(&folder, "data bits.csv").fine(), expected);
    let labelled = run(&folder, "data bits.csv --label-column a").fine();
    assert!(labelled.contains("2 rows of 2 values") && labelled.ends_with("labels: 0, 1\n"), "{labelled}");
    fs::write(folder.join("numbers.csv"), "0.5,-3\n1,2\n").unwrap();
    let numbers = run(&folder, "data numbers.csv").fine();
    assert!(numbers.ends_with("use --scale max or minmax, or --visible gaussian:2 --scale standard\n"), "{numbers}");
}

/// Every command has completions and a manual page.
#[test]
fn completions_and_manual() {
    let folder = folder("manual");
    let help = run(&folder, "--help").fine();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> =
        commands.filter_map(|line| line.split_whitespace().next()).filter(|&name| name != "help").collect();
    assert!(commands.contains(&"train") && commands.contains(&"man"), "{help}");
    run(&folder, "man --out pages").fine();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&folder, &format!("completions {shell}")).fine();
        assert!(commands.iter().all(|name| script.contains(name)) && script.contains("recipe"), "{shell}");
    }
    for name in commands {
        let page = fs::read_to_string(folder.join(format!("pages/harmonium-{name}.1"))).unwrap();
        assert!(page.contains(&format!("harmonium\\-{name}")), "{name}: {page}");
    }
}
