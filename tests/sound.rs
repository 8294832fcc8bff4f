//! What a device can be asked to do unchecked, nobody outside of the crate can ask: programs that try do not compile.

#[test]
fn verbs_cannot_be_called() {
    trybuild::TestCases::new().compile_fail("tests/sound/*.rs");
}
