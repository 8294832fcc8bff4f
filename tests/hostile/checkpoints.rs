//! Checkpoints with a correct checksum, so that later checks are reached.

use super::{Table, oracle::shape};
use harmonium::{
    Algorithm, Checkpoint, Cpu, Rbm, Rows, Settings, Trainer, Values,
    checkpoint::{Place, fingerprint},
    model,
};
use sha2::{Digest, Sha256};

fn checkpoint() -> Checkpoint {
    let cpu = Cpu::detect().expect("a CPU");
    let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 2 }, k: 1, ..Settings::default() };
    let trainer = Trainer::new(cpu, shape(3, 2), settings).expect("a trainer").state().expect("a state");
    let data = fingerprint(Rows::new(Values::U8(&[1, 2, 3]), 3).expect("rows"));
    let mut checkpoint = Checkpoint::new(Rbm::new(shape(3, 2), 1), settings, trainer, Place::default(), data);
    checkpoint.version = "0".into();
    checkpoint
}

/// Corrects the checksum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.windows(7).position(|part| part == b"sha256:").expect("a checksum") + 7;
    bytes[at..at + 64].fill(b'0');
    let digits: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bytes[at..at + 64].copy_from_slice(digits.as_bytes());
    bytes
}

#[test]
#[rustfmt::skip]
fn checkpoint_files() {
    let mut table = Table::default();
    let good = checkpoint().to_bytes().expect("bytes");
    let text = String::from_utf8_lossy(&good[..good.len() - 100]).into_owned();
    // As long as the replaced text, so that the header's length stays correct.
    let with = |from: &str, to: &str| {
        let (from, to) = (from.replace('\'', "\\\""), to.replace('\'', "\\\""));
        assert!(text.contains(&from), "{from} in {text}");
        let at = good.windows(from.len()).position(|part| part == from.as_bytes()).expect("the place");
        let mut bytes = good.clone();
        bytes.splice(at..at + from.len(), format!("{to:<width$}", width = from.len()).into_bytes());
        assert_eq!(bytes.len(), good.len());
        sealed(bytes)
    };
    assert!(sealed(good.clone()) == good);
    let model = model::to_bytes(Rbm::new(shape(3, 2), 1).view()).expect("bytes");
    let mut unsealed = good.clone();
    let last = unsealed.len() - 1;
    unsealed[last] ^= 1;
    let (before, now) = (digits(&good), digits(&sealed(unsealed.clone())));
    let other = "x: expected a checkpoint of harmonium, found another file, or the beginning of one";
    // The name of the field and serde's message.
    let of = |found: &str| format!("x: expected the metadata of a checkpoint, found {found}");
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("nothing", vec![], other.into()),
        ("a model", model, other.into()),
        ("the beginning", good[..100].to_vec(), other.into()),
        ("one bit", unsealed, format!("x: expected checksum {before}, found {now}: the file is damaged or cut off")),
        ("another format", with("'format':1", "'format':3"), "x: expected a checkpoint of format 1 or 2, found 3".into()),
        ("no format", with("'format'", "'fOrmat'"), of("missing field `format` at line 1 column 316")),
        ("no JSON", with("{'algorithm'", "['algorithm'"), of("[0]: invalid type: string \"algorithm\", expected u64 at line 1 column 12")),
        ("another algorithm", with("'pcd'", "'abc'"), of("algorithm: expected pcd or cd, found abc")),
        ("another monitor", with("'pl'", "'xx'"), of("monitor: unknown variant `xx`, expected one of `none`, `pl`, `pl-exact`, `reconstruction` at line 1 column 161")),
        ("k that is a list", with("'k':1", "'k':["), of("k: expected value at line 1 column 138")),
        ("k below 0", with("'epoch':0,'format':1,'k':1", "'epoch':0,'format':1,'k':-"), of("k: invalid number at line 1 column 138")),
        ("no seed", with("'seed':123", "'sEed':123"), of("missing field `seed` at line 1 column 316")),
        ("a fraction of an epoch", with("'epoch':0", "'epoch':."), of("epoch: expected value at line 1 column 120")),
        ("not a finite sum", with("'watched':'0.0'", "'watched':'NaN'"), of("watched: expected a finite number, found NaN at line 1 column 316")),
        ("no finite time", with("'seconds':'0.0'", "'seconds':'inf'"), of("seconds: expected a finite number, found inf at line 1 column 203")),
        ("a log that is none", with("'log':[]", "'log':{}"), of("log: invalid type: map, expected a sequence at line 1 column 144")),
        ("a row of it", with("'log':[]", "'log':[0"), of("log: expected `,` or `]` at line 1 column 157")),
        ("options that are none", with("'options':{}", "'options':[]"), of("options: invalid type: sequence, expected a map at line 1 column 172")),
        ("more after it", with("'watched':'0.0'}", "'watched':'0'}x"), of("trailing characters at line 1 column 315")),
        ("no chains", with("\"chains\"", "\"chain5\""), "x: expected a tensor chains, found chain5, betas, hidden_bias, visible_bias, weights".into()),
        ("chains for another layer", with("\"shape\":[2,1]", "\"shape\":[1,2]"), "x: expected chains of shape [2, 1], as betas and weights have it, and at least one, found [1, 2]".into()),
        ("betas of another type", with("\"betas\":{\"dtype\":\"F32\"", "\"betas\":{\"dtype\":\"I32\""), "x: expected betas of type F32, found I32".into()),
    ];
    for (what, bytes, message) in &cases {
        table.case(what, Checkpoint::from_bytes(bytes, "x"), message);
    }
    table.judge(22);
}

fn digits(bytes: &[u8]) -> String {
    let at = bytes.windows(7).position(|part| part == b"sha256:").expect("a checksum") + 7;
    String::from_utf8(bytes[at..at + 64].to_vec()).expect("digits")
}
