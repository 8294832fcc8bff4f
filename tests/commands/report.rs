//! `harmonium report`, and statistics of hidden units in `info`, `diagnose` and `filters`: pages, numbers, errors.

use crate::oracle::program::{SMALL, fine, folder, run};
use harmonium::{Checkpoint, Cpu, Dataset, Rbm, model};
use std::{fs, path::Path};

fn page(out: &Path) -> String {
    fs::read_to_string(out.join("report.html")).expect("a page")
}

/// A run on 4 × 4 images in `folder`/out, with all diagnostics.
fn trained(name: &str, more: &str) -> std::path::PathBuf {
    let folder = folder(name);
    crate::oracle::program::write_data(&folder.join("data"), &[50, 4, 4], 1);
    fine(&folder, &format!("{SMALL} --validation 0.2 --health-every 10 --out out {more}"));
    folder
}

/// The parts of a text between `from` and `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    text.split(from).skip(1).map(|rest| rest.split(to).next().unwrap_or_default()).collect()
}

#[test]
fn a_run_is_on_one_page() {
    let folder = trained("page", "");
    let said = fine(&folder, "report out");
    assert!(said.starts_with("out/report.html: ") && said.ends_with(" KiB\n"), "{said}");
    let page = page(&folder.join("out"));
    for title in [
        "Curves",
        "Filters and chains",
        "Samples",
        "Weights and biases",
        "Hidden units over data",
        "Health of the chains",
        "Settings",
        "Files",
    ] {
        assert!(page.contains(&format!("<h2>{title}</h2>")), "{title}");
    }
    for part in ["validation rows", "Running log Z", "Equilibrium gap", "over rows v of data", "16 × 8"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("Left out"), "something is missing");
    // The page is self-contained: links stay on the page, and images are embedded.
    let sources = between(&page, "src=\"", "\"");
    assert_eq!(sources.len(), 5, "two of filters, two of chains, and samples");
    assert!(sources.iter().all(|source| source.starts_with("data:image/png;base64,")));
    let links = between(&page, "href=\"", "\"");
    assert!(links.len() == 8 && links.iter().all(|link| page.contains(&format!("id=\"{}\"", &link[1..]))), "{links:?}");
    assert!(!page.contains("url(") && !page.contains("@import") && !page.contains("<script"));
    let names = between(&page, "http://", "\"");
    assert!(names.iter().all(|name| *name == "www.w3.org/2000/svg"), "{names:?}");
    // The page defines the colours of plots, for dark mode too.
    let colours: Vec<_> = ["stroke=\"#", "fill=\"#"].iter().flat_map(|from| between(&page, from, "\"")).collect();
    for colour in colours {
        assert!(page.contains(&format!("stroke=\"#{colour}\"] {{ stroke: var(")), "{colour}");
    }
    // Equal runs give equal pages except for times; a page does not list itself.
    fine(&folder, "report out");
    assert_eq!(self::page(&folder.join("out")), page);
    assert!(!page.contains("<td>report.html</td>"));
}

#[test]
fn the_command_on_the_page_repeats_the_run() {
    let folder = trained("again", "--momentum 0.5 --shuffle off --likelihood off --schedule linear --chains 7");
    fine(&folder, "report out");
    let page = page(&folder.join("out"));
    let command =
        between(&page, "<pre>harmonium ", "</pre>")[0].replace("\\\n", "").replace("--out out", "--out again");
    fine(&folder, &format!("{command} --quiet"));
    let kept = |out: &str| {
        let checkpoint = Checkpoint::load(&folder.join(out).join("checkpoint.safetensors")).expect("a checkpoint");
        (checkpoint.rbm, checkpoint.options)
    };
    assert!(kept("out") == kept("again"), "{command}");
}

#[test]
fn missing_sources_are_named() {
    let folder = trained("missing", "--likelihood off");
    let out = folder.join("out");
    let report = |more: &str| {
        fine(&folder, &format!("report out{more}"));
        page(&out)
    };
    fs::rename(folder.join("data"), folder.join("elsewhere")).expect("renamed");
    let page = report("");
    assert!(page.contains("Left out: data: expected a folder with MNIST&#39;s files"), "escaped");
    assert!(report(" --data elsewhere").contains("over rows v of elsewhere: of 8 hidden units"));
    // An older log has fewer columns.
    let log = "epoch,updates,monitor,seconds\n0,5,-9.5,1.0\n1,10,,2.0\n";
    fs::write(out.join("log.csv"), log).expect("written");
    for name in ["health.csv", "checkpoint.safetensors", "samples.png", "filters_at_epoch_0.png"] {
        fs::remove_file(out.join(name)).expect("removed");
    }
    let page = report("");
    for part in [
        "the folder does not say which data",
        "the run had no --health-every N",
        "checkpoint.safetensors, which keeps them",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<h2>Samples</h2>") && !page.contains("Filters after epoch 0"));
    // A log without lines, and one with numbers that no run reaches.
    fs::write(out.join("log.csv"), "epoch,updates,monitor,seconds\n").expect("written");
    assert!(report("").contains("The log has no values to plot."));
    let most = u64::MAX;
    let log = format!("epoch,updates,monitor,seconds\n0,5,NaN,inf\n1,6,1e308,-1e308\n{most},{most},-inf,1\n");
    fs::write(out.join("log.csv"), log).expect("written");
    assert!(report("").contains(&format!("<dd>{most}</dd>")));
}

#[test]
fn names_are_escaped() {
    let folder = folder("names");
    let out = "<script>&quot;";
    let run = |words: &[&str]| {
        let mut command = crate::oracle::program::command(&folder, "");
        let output = command.args(words).output().expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let small: Vec<_> = SMALL.split(' ').chain(["--likelihood", "off", "--out", out]).collect();
    run(&small);
    fs::write(folder.join(out).join("<img src=x>"), "").expect("a file");
    run(&["report", out]);
    let page = page(&folder.join(out));
    assert!(!page.contains("<script") && !page.contains("<img src=x>"));
    assert!(page.contains("<title>&#60;script&#62;&#38;quot;</title>"));
    assert!(page.contains("&#60;img src=x&#62;"));
}

#[test]
fn folders_without_a_run_are_refused() {
    let folder = trained("refused", "--likelihood off");
    let refused = |message: &str| {
        let expected = (1, String::new(), format!("error: {message}\n"));
        assert_eq!(run(&folder, "report out"), expected);
    };
    assert_eq!(run(&folder, "report nothing").2, "error: nothing: No such file or directory (os error 2)\n");
    assert_eq!(run(&folder, "report data").2, "error: data: Not a directory (os error 20)\n");
    assert_eq!(
        run(&folder, "report .").2,
        "error: .: expected the folder of a run of harmonium train, with log.csv, found a folder without log.csv\n"
    );
    assert_eq!(run(&folder, "report").0, 2);
    crate::oracle::program::write_data(&folder.join("wide"), &[50, 17], 1);
    assert_eq!(
        run(&folder, "report out --data wide").2,
        "error: wide: expected rows of 16 values, the visible units of out/model.safetensors, found rows of 17\n"
    );
    let lines = "expected a table of harmonium train, found";
    // Damage each file in turn, then restore it.
    for (name, bytes, message) in [
        ("log.csv", "epoch,updates\n1,2\n", format!("out/log.csv: {lines} CSV deserialize error: record 1 (line: 2, byte: 14): missing field `seconds`")),
        ("log.csv", "epoch,updates,monitor,seconds\n1,2\n", format!("out/log.csv: {lines} CSV error: record 1 (line: 2, byte: 30): found record with 2 fields, but the previous record has 4 fields")),
        ("log.csv", "epoch,updates,monitor,seconds\n-1,2,3,4\n", format!("out/log.csv: {lines} CSV deserialize error: record 1 (line: 2, byte: 30): field 0: invalid digit found in string")),
        ("health.csv", "updates\nx\n", format!("out/health.csv: {lines} CSV deserialize error: record 1 (line: 2, byte: 8): field 0: invalid digit found in string")),
        ("samples.png", "GIF89a", "out/samples.png: expected a PNG image of at most 8 MiB, found Invalid PNG signature.".into()),
        ("chains_at_epoch_3.png", "", "out/chains_at_epoch_3.png: expected a PNG image of at most 8 MiB, found unexpected end of file".into()),
        ("model.safetensors", "1234567", "out/model.safetensors: expected a safetensors file, found a header that goes beyond the end".into()),
        ("checkpoint.safetensors", "", "out/checkpoint.safetensors: expected a checkpoint of harmonium, found another file, or the beginning of one".into()),
    ] {
        let path = folder.join("out").join(name);
        let before = fs::read(&path).expect("a file");
        fs::write(&path, bytes).expect("written");
        refused(&message);
        fs::write(&path, before).expect("written");
    }
    let path = folder.join("out/samples.png");
    fs::File::create(&path).and_then(|file| file.set_len((8 << 20) + 1)).expect("a large file");
    refused("out/samples.png: expected a PNG image of at most 8 MiB, found 8388609 bytes");
    fs::remove_file(path).expect("removed");
    fs::remove_file(folder.join("out/model.safetensors")).expect("removed");
    refused("out/model.safetensors: No such file or directory (os error 2)");
    assert!(!folder.join("out/report.html").exists());
}

#[test]
fn info_and_diagnose_report_hidden_units() {
    let folder = folder("hidden");
    // Of 15 visible units only the first counts: a unit that copies it, one never on, and one always on.
    let mut weights = vec![0.0; 15 * 3];
    weights[0] = 40.0;
    let rbm = Rbm::from_parts(crate::oracle::shape(15, 3), weights, vec![0.0; 15], vec![-20.0, -9.0, 9.0])
        .expect("a right model");
    model::save(rbm.view(), &folder.join("m")).expect("saved");
    let rows = Dataset::open(folder.join("data")).expect("rows").binarised();
    let expected =
        rbm.on(Cpu::detect().expect("a CPU")).and_then(|rbm| rbm.activity(rows.rows())).expect("an activity");
    for command in ["info m --data data --json", "diagnose m --data data --steps 20 --json"] {
        let found: serde_json::Value = serde_json::from_str(&fine(&folder, command)).expect("JSON");
        let expected = serde_json::json!({
            "rows": 50,
            "always_off": 1,
            "always_on": 1,
            "mean": expected.mean,
            "standard_deviation": expected.standard_deviation,
        });
        // Both numbers are parsed decimals, so they are rounded.
        let expected: serde_json::Value = serde_json::from_str(&expected.to_string()).expect("JSON");
        assert_eq!(found["hidden"], expected, "{command}");
    }
    for command in ["info m --data data", "diagnose m --data data --steps 20"] {
        let said = fine(&folder, command);
        assert!(said.contains("\nof 3 hidden units, 1 are always off and 1 always on, over 50 rows\n"), "{said}");
        assert!(said.contains("\nmean         0.00012 "), "{said}");
    }
    let said: serde_json::Value = serde_json::from_str(&fine(&folder, "info m --json")).expect("JSON");
    assert!(said.get("hidden").is_none());
    assert!(run(&folder, "info m --data none").2.contains("put them there or give --data PATH"));
}

#[test]
fn filters_have_a_scale_of_their_own_or_one_for_all() {
    let folder = folder("filters");
    let rbm = crate::oracle::random_rbm(crate::oracle::shape(16, 3), 1.0, 1);
    model::save(rbm.view(), &folder.join("m")).expect("saved");
    let picture = |more: &str| {
        fine(&folder, &format!("filters m --tile 1x3{more}"));
        let file = fs::File::open(folder.join("filters.png")).expect("a picture");
        let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().expect("a picture");
        let mut values = vec![0; reader.output_buffer_size().expect("a small picture")];
        reader.next_frame(&mut values).expect("pixels");
        values
    };
    let (own, common) = (picture(" --scale own"), picture(" --scale common"));
    assert_eq!(picture(""), own);
    let expected = |scale| {
        use harmonium::raster::filters;
        filters(rbm.view(), (4, 4), (1, 3), scale).expect("a picture").values().to_vec()
    };
    use harmonium::raster::FilterScale::{Common, Own};
    assert_eq!((own, common), (expected(Own), expected(Common)));
    let (status, _, said) = run(&folder, "filters m --scale both");
    assert_eq!(
        (status, said.as_str()),
        (2, "error: invalid value 'both' for '--scale <own|common>': expected one of own, common\n")
    );
}
