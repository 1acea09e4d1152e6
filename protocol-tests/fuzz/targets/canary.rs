//! A decoder with a fault: `./run` fails when libFuzzer does not find it, for then the other runs say nothing.
//!
//! Blind bytes hit the five of them once in 2^40; with working coverage counters it takes a moment.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let found = bytes.iter().zip(b"pond!").take_while(|(a, b)| a == b).count();
    for seen in 0..found {
        std::hint::black_box(seen);
    }
    if bytes.first() == Some(&b'p')
        && bytes.get(1) == Some(&b'o')
        && bytes.get(2) == Some(&b'n')
        && bytes.get(3) == Some(&b'd')
        && bytes.get(4) == Some(&b'!')
    {
        panic!("the canary sang");
    }
});
