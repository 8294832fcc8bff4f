//! Code outside of the crate cannot reach a device's unchecked calls: programs that try do not compile.

#[test]
fn verbs_cannot_be_called() {
    trybuild::TestCases::new().compile_fail("tests/sound/*.rs");
}
