//! Models, which are safetensors files.

use super::Table;
use harmonium::model;

fn safetensors(header: &str, data: &[f32]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

#[test]
#[rustfmt::skip]
fn model_files() {
    let mut table = Table::default();
    let data = [0.5, -0.5, 1.0, 2.0, 3.0];
    let good = r#"{"weights":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"visible_bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"hidden_bias":{"dtype":"F32","shape":[1],"data_offsets":[16,20]}}"#;
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        safetensors(&good.replacen(from, to, 1), &data)
    };
    let value = |at: usize, x: f32| {
        let mut data = data;
        data[at] = x;
        safetensors(good, &data)
    };
    model::from_bytes(&safetensors(good, &data), "x").expect("a model");
    let file = "x: expected a safetensors file, found ";
    let beyond = format!("{file}a header that goes beyond the end");
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("nothing", vec![], beyond.clone()),
        ("text", b"hello world".to_vec(), beyond.clone()),
        ("a header of 2^64 - 1 bytes", vec![0xff; 8], beyond.clone()),
        ("a header of 2^63 bytes", [&[0, 0, 0, 0, 0, 0, 0, 0x80][..], b"{}"].concat(), beyond),
        ("no JSON", safetensors("{", &data), format!("{file}EOF while parsing an object at line 1 column 1")),
        ("no tensors", safetensors("{}", &[]), "x: expected a tensor weights, found none".into()),
        ("other tensors", safetensors(r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, &[]), "x: expected a tensor weights, found a".into()),
        ("no visible bias", with("visible_bias", "visible-bias"), "x: expected a tensor visible_bias, found weights, visible-bias, hidden_bias".into()),
        ("another type", with("F32", "I32"), "x: expected weights of type F32, found I32".into()),
        ("half the bits", with(r#""F32","shape":[1]"#, r#""BF16","shape":[2]"#), "x: expected hidden_bias of type F32, found BF16".into()),
        ("a type that is none", with("F32", "F31"), format!("{file}{}", serde_message(&good.replacen("F32", "F31", 1)))),
        ("a name of two lines and a colour", safetensors("{\"a\\nb\\u001b[31m\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", &[]), "x: expected a tensor weights, found a\\nb\\u{1b}[31m".into()),
        ("flat weights", with("[2,1]", "[2]"), "x: expected weights with 2 dimensions, found [2]".into()),
        ("a bias too deep", with(r#""shape":[1]"#, r#""shape":[1,1]"#), "x: expected hidden_bias with 1 dimensions, found [1, 1]".into()),
        ("transposed weights", with("[2,1]", "[1,2]"), "x: expected visible_bias of shape [1], as weights have it, found [2]".into()),
        ("a shape that does not fit", with("[2,1]", "[2,2]"), format!("{file}{}", serde_message(&good.replacen("[2,1]", "[2,2]", 1)))),
        ("overlapping tensors", with("[8,16]", "[4,12]"), format!("{file}{}", serde_message(&good.replacen("[8,16]", "[4,12]", 1)))),
        ("offsets backwards", with("[16,20]", "[20,16]"), format!("{file}{}", serde_message(&good.replacen("[16,20]", "[20,16]", 1)))),
        ("offsets beyond the end", with("[16,20]", "[16,18446744073709551615]"), format!("{file}{}", serde_message(&good.replacen("[16,20]", "[16,18446744073709551615]", 1)))),
        ("offsets beyond 64 bits", with("[16,20]", "[16,18446744073709551616]"), format!("{file}{}", serde_message(&good.replacen("[16,20]", "[16,18446744073709551616]", 1)))),
        ("a gap", with("[16,20]", "[20,24]"), format!("{file}{}", serde_message(&good.replacen("[16,20]", "[20,24]", 1)))),
        ("sizes whose sum is beyond 64 bits", safetensors(&beyond_64_bits(), &data), "x: expected 18446744073709551608 bytes of tensors, found 20".into()),
        ("data cut off", safetensors(good, &data[..4]), "x: expected 20 bytes of tensors, found 16".into()),
        ("data too long", safetensors(good, &[0.0; 6]), "x: expected 20 bytes of tensors, found 24".into()),
        ("NaN", value(1, f32::NAN), "x: expected weights[1] to be a finite number, found NaN".into()),
        ("infinity", value(3, f32::INFINITY), "x: expected visible_bias[1] to be a finite number, found inf".into()),
        ("minus infinity", value(4, f32::NEG_INFINITY), "x: expected hidden_bias[0] to be a finite number, found -inf".into()),
        ("no units", safetensors(r#"{"weights":{"dtype":"F32","shape":[0,1],"data_offsets":[0,0]},"visible_bias":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"hidden_bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[1.0]),
            "x: expected weights: at least one visible and one hidden unit, and at most 2147483647 weights, found 0 × 1".into()),
    ];
    for (what, bytes, message) in &cases {
        table.case(what, model::from_bytes(bytes, "x"), message);
    }
    table.judge(28);
}

/// Eight tensors of 2^61 - 1 bytes each.
fn beyond_64_bits() -> String {
    let size = (1u64 << 61) - 1;
    let tensor = |n: u64| {
        format!(r#""t{n}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{},{}]}}"#, n * size, (n + 1) * size)
    };
    format!("{{{}}}", (0..8).map(tensor).collect::<Vec<_>>().join(","))
}

/// The safetensors crate's message about a header. The crate may change it; harmonium passes it on.
fn serde_message(header: &str) -> String {
    let parsed: std::result::Result<safetensors::tensor::Metadata, _> = serde_json::from_str(header);
    parsed.err().map_or("no error".into(), |error| error.to_string())
}
