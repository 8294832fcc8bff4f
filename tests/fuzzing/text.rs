//! Tables of text and svmlight: whole rows, or an error, whatever is asked for of their columns.

use harmonium::{
    formats::{Column, LabelSource, Reading, read_within},
    scale::as_numbers,
};

const MOST: u64 = 1 << 20;

pub fn run(bytes: &[u8]) {
    for name in ["a.file.csv", "a.file.svm"] {
        match read_within(bytes, name, MOST) {
            Ok(images) => assert!(images.rows.len() > 0 && images.rows.units() > 0 && images.labels.is_none()),
            Err(error) => judge(name, &error),
        }
        for labels in [LabelSource::Own, LabelSource::IfOwn, column("-1"), column("0"), column("a")] {
            let how = Reading { labels, max_bytes: MOST, as_numbers: true, ..Reading::default() };
            let images = match how.read(bytes, name) {
                Ok(images) => images,
                Err(error) => {
                    judge(name, &error);
                    continue;
                }
            };
            assert_eq!(images.rows.segments(), as_numbers(images.rows.segments()));
            let Some(labels) = images.labels else { continue };
            assert_eq!(labels.states().len(), images.rows.len());
            assert!(labels.states().iter().flatten().all(|&state| (state as usize) < labels.names().len()));
            assert!(
                labels.names().iter().all(|name| labels.names().iter().filter(|other| *other == name).count() == 1)
            );
            assert_eq!(labels.by(labels.names(), name).expect("its own names"), labels);
        }
    }
}

fn column(text: &str) -> LabelSource {
    LabelSource::Column(text.parse::<Column>().expect("a column"))
}

fn judge(name: &str, error: &harmonium::Error) {
    let text = error.to_string();
    assert!(text.starts_with(&format!("{name}: ")) && !text.contains('\n'), "{text}");
}
