//! The settings in the environment.

/// The emulator's settings; read once, when the library is first called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HARMONIUM_EMULATOR_SEED`: shuffles blocks, warps and lanes, and delays asynchronous stores.
    pub seed: Option<u64>,
    /// `HARMONIUM_EMULATOR_RACES`: 0 turns the race detector off.
    pub races: bool,
    /// `HARMONIUM_EMULATOR_APPROX_SEED`: perturbs the approximate instructions within their documented bounds.
    pub approx_seed: Option<u64>,
    /// `HARMONIUM_EMULATOR_DEVICES`: the number of devices.
    pub devices: i32,
    /// `HARMONIUM_EMULATOR_DRIVER`: the driver's version, such as 12000.
    pub driver: i32,
    /// `HARMONIUM_EMULATOR_CAPABILITY`: ten times the compute capability, such as 86.
    pub capability: i32,
    /// `HARMONIUM_EMULATOR_MEMORY`: bytes of device memory.
    pub memory: u64,
    /// `HARMONIUM_EMULATOR_FAIL_ALLOC`: the allocation of this number (from 1) fails, and all after it.
    pub fail_alloc: u64,
    /// `HARMONIUM_EMULATOR_FAIL_LAUNCH`: the launch of this number (from 1) fails while it runs.
    pub fail_launch: u64,
    /// `HARMONIUM_EMULATOR_FAIL_READ`: the copy to the host of this number (from 1) fails, and no other.
    pub fail_read: u64,
    /// `HARMONIUM_EMULATOR_MAX_INSTRUCTIONS`: warp instructions of a launch before it times out.
    pub max_instructions: u64,
    /// `HARMONIUM_EMULATOR_STATS`: 1 prints the instructions of every launch to stderr.
    pub stats: bool,
    /// `HARMONIUM_EMULATOR_TRACE`: 1 prints every call that gives work to a stream to stderr.
    pub trace: bool,
}

impl Settings {
    /// Reads the environment. Values that cannot be parsed count as not set.
    pub fn from_environment() -> Self {
        fn read<T: std::str::FromStr>(name: &str) -> Option<T> {
            let name = format!("HARMONIUM_EMULATOR_{name}");
            std::env::var(name).ok()?.trim().parse().ok()
        }
        Self {
            seed: read("SEED"),
            races: read::<u8>("RACES") != Some(0),
            approx_seed: read("APPROX_SEED"),
            devices: read("DEVICES").unwrap_or(1),
            driver: read("DRIVER").unwrap_or(13000),
            capability: read("CAPABILITY").unwrap_or(86),
            memory: read("MEMORY").unwrap_or(8 << 30),
            fail_alloc: read("FAIL_ALLOC").unwrap_or(u64::MAX),
            fail_launch: read("FAIL_LAUNCH").unwrap_or(u64::MAX),
            fail_read: read("FAIL_READ").unwrap_or(u64::MAX),
            max_instructions: read("MAX_INSTRUCTIONS").unwrap_or(1 << 34),
            stats: read::<u8>("STATS") == Some(1),
            trace: read::<u8>("TRACE") == Some(1),
        }
    }
}

/// A mixing function: every bit of the result depends on every bit of the argument.
pub fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
