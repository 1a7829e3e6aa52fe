#!/bin/sh
# Builds every guest program into prebuilt/ and records the sources that each was built
# from in prebuilt/SOURCES, which a test of the images crate checks.
#
# Needs the targets wasm32-wasip1 and wasm32-wasip2:
#     rustup target add wasm32-wasip1 wasm32-wasip2
# or RUSTC naming a compiler that has them.
set -eu
cd "$(dirname "$0")"

# No path of the machine that builds ends up in a panic message.
RUSTFLAGS="--remap-path-prefix=$(pwd)=/samples --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export RUSTFLAGS

# Where the compiler's own sources are, which a standard library built on this machine
# names; blanked out in place, so that no offset in the module changes.
compiler="$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust"
blank="$(printf '%s' "$compiler" | sed 's/./_/g')"

# sha256 over the digests of a sample's own files and of what all samples share.
sources_of() {
    { find "$1" -type f; echo Cargo.lock; echo Cargo.toml; } | LC_ALL=C sort |
        xargs sha256sum | sha256sum | cut -d' ' -f1
}

build() { # target, sample, file that cargo leaves
    cargo build --quiet --locked --release --target "$1" -p "$2"
    LC_ALL=C sed "s#$compiler#$blank#g" "${CARGO_TARGET_DIR:-target}/$1/release/$3" > "prebuilt/$2.wasm"
    chmod 644 "prebuilt/$2.wasm"
}

[ -f Cargo.lock ] || cargo generate-lockfile
mkdir -p prebuilt
build wasm32-wasip2 caller caller.wasm
build wasm32-wasip1 cli cli.wasm
build wasm32-wasip1 crash crash.wasm
build wasm32-wasip2 hello hello.wasm
build wasm32-wasip2 memhog memhog.wasm
build wasm32-wasip1 spin spin.wasm
build wasm32-wasip2 tcp-echo tcp-echo.wasm

{
    echo "# <sample> <sha256 of its sources> <sha256 of its module>; written by build.sh"
    for sample in caller cli crash hello memhog spin tcp-echo; do
        echo "$sample $(sources_of "$sample") $(sha256sum "prebuilt/$sample.wasm" | cut -d' ' -f1)"
    done
} > prebuilt/SOURCES
ls -l prebuilt
