//! `spin`: burns CPU for ever and never calls the host again after its first line.

use std::hint::black_box;

fn main() {
    println!("spinning");
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}
