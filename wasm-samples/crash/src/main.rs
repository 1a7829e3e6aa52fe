//! `crash`: ends in the trap that its argument names: `unreachable` (when there is
//! none), `stack` (overflow), `memory` (access out of bounds) or `panic`.

use std::hint::black_box;

fn main() {
    let kind = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "unreachable".into());
    eprintln!("about to crash: {kind}");
    match kind.as_str() {
        "stack" => println!("{}", descend(0)),
        "memory" => println!("{}", read_far_away()),
        "panic" => panic!("asked to panic"),
        _ => std::process::abort(),
    }
}

#[expect(
    unconditional_recursion,
    reason = "overflowing the stack is its purpose"
)]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    descend(depth + 1) + frame[(depth % 64) as usize]
}

/// No safe code leaves its linear memory; this reads its last page's far side.
fn read_far_away() -> u8 {
    let far = black_box(u32::MAX as usize - 16) as *const u8;
    // SAFETY: none. The sandbox, not this program, is what makes this harmless.
    unsafe { far.read_volatile() }
}
