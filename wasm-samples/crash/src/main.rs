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

/// Calls itself through a pointer that the compiler cannot see through, with next to
/// nothing in linear memory, so that it is the call stack that runs out.
fn descend(depth: u64) -> u64 {
    let next: fn(u64) -> u64 = black_box(descend);
    next(depth + 1).wrapping_add(depth)
}

/// No safe code leaves its linear memory; this reads its last page's far side.
fn read_far_away() -> u8 {
    let far = black_box(u32::MAX as usize - 16) as *const u8;
    // SAFETY: none. The sandbox, not this program, is what makes this harmless.
    unsafe { far.read_volatile() }
}
