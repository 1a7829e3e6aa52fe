//! `memhog`: allocates a mebibyte at a time and touches all of it, until it may not.
//! With an argument it stops after that many mebibytes and exits with code 0.

use std::hint::black_box;

const MEBIBYTE: usize = 1 << 20;

fn main() {
    let most = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let mut held = Vec::new();
    while most.is_none_or(|most: usize| held.len() < most) {
        held.push(black_box(vec![1_u8; MEBIBYTE]));
        if held.len() % 16 == 0 {
            println!("holding {} MiB", held.len());
        }
    }
    println!("done with {} MiB", held.len());
}
