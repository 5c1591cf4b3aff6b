#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mezzo_tests::fuzz::run("master_calls", data));
