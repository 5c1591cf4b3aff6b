#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mezzo_tests::fuzz::run("protobuf_answers", data));
