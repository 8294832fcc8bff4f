//! One test for each form of each opcode, against expectations that are written down, not computed by the same code.

mod arithmetic;
mod kernels;
mod matrices;
mod memory;
mod threads;

use std::collections::HashMap;

use crate::build::{Builder, Globals};
use crate::machine::{Fault, Heap, Launch, run};
use crate::ptx;
use crate::settings::Settings;

fn settings() -> Settings {
    Settings { max_instructions: 1 << 20, ..Settings::from_environment() }
}

/// Runs a kernel `k(out)` on one block, and returns `words` words of its output.
fn words(text: &str, threads: u32, words: usize) -> Result<Vec<u64>, Fault> {
    let settings = settings();
    let text = format!(".version 8.0\n.target sm_70\n.address_size 64\n{text}");
    let module = ptx::parse(&text).expect("the text is PTX");
    let globals = Globals { module: &module, addresses: HashMap::new(), settings: &settings };
    let kernel = module.functions.iter().find(|f| f.kernel).expect("there is a kernel");
    let code = Builder::kernel(&globals, kernel).unwrap_or_else(|e| panic!("{e}"));
    let mut heap = Heap::default();
    let out = heap.allocate(8 * words);
    let launch = Launch {
        code: &code,
        grid: [1, 1, 1],
        block: [threads, 1, 1],
        cluster: [1; 3],
        dynamic_shared: 0,
        params: out.to_le_bytes().to_vec(),
    };
    run(launch, &mut heap, &settings, 0)?;
    let bytes = heap.range(out, 8 * words).expect("it was allocated");
    let word = |chunk: &[u8]| u64::from_le_bytes(std::array::from_fn(|i| chunk[i]));
    Ok(bytes.chunks_exact(8).map(word).collect())
}

/// A kernel with registers of all kinds, in which `%out` points to the result.
fn kernel(body: &str) -> String {
    format!(
        ".visible .entry k(.param .u64 out) {{
            .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p<9>; .reg .b64 %out;
            ld.param.u64 %out, [out];
            {body}
            ret;
        }}"
    )
}

/// Words at `%out` that a row may use as scratch.
const SCRATCH: usize = 4;

/// Runs instructions whose result is `%r0`, `%h0`, `%d0` or `%p0`, and compares the results.
fn check(table: &[(&str, u64)]) {
    let mut body = String::new();
    for (i, (text, _)) in table.iter().enumerate() {
        let result = ["%r0", "%h0", "%d0", "%p0"].into_iter().find(|name| text.contains(name));
        let widen = match result.expect("a row has a result") {
            "%r0" => "cvt.u64.u32 %d8, %r0;",
            "%h0" => "cvt.u64.u16 %d8, %h0;",
            "%d0" => "mov.b64 %d8, %d0;",
            _ => "selp.b64 %d8, 1, 0, %p0;",
        };
        body += &format!("{text}; {widen} st.global.u64 [%out+{}], %d8;\n", 8 * (SCRATCH + i));
    }
    let found = words(&kernel(&body), 1, SCRATCH + table.len()).expect("no fault");
    let wrong: Vec<String> = table
        .iter()
        .zip(&found[SCRATCH..])
        .filter(|((_, expected), found)| expected != *found)
        .map(|((text, expected), found)| format!("{text}: expected {expected:#x}, found {found:#x}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs a body on the threads of one warp; each thread returns the word `%d0`.
fn lanes(threads: u32, body: &str) -> Vec<u64> {
    let text = format!(
        "mov.u32 %r8, %tid.x; {body}
         mul.wide.u32 %d8, %r8, 8; add.u64 %d8, %d8, %out; st.global.u64 [%d8], %d0;"
    );
    words(&kernel(&text), threads, threads as usize).expect("no fault")
}
