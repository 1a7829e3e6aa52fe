//! Where the last lines of a file begin, found from its end.

use std::io;

use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};

/// Bytes read at a time on the way back.
const BLOCK_BYTES: u64 = 64 << 10;

/// The offset at which the last `lines` lines of the file begin.
pub(super) async fn start_of(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    let mut at = end;
    // The newline that ends the last line begins no other one.
    let mut newlines = 0;
    let mut block = Vec::new();
    while at > 0 {
        let begin = at.saturating_sub(BLOCK_BYTES);
        let length = at - begin;
        file.seek(SeekFrom::Start(begin)).await?;
        block.clear();
        (&mut *file).take(length).read_to_end(&mut block).await?;
        for (index, byte) in block.iter().enumerate().rev() {
            let offset = begin + index as u64;
            if *byte != b'\n' || offset + 1 == end {
                continue;
            }
            newlines += 1;
            if newlines == lines {
                return Ok(offset + 1);
            }
        }
        at = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_counted_from_the_end() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let text = "a\nbb\nccc\n";
        std::fs::write(&path, text).unwrap();
        let mut file = File::open(&path).await.unwrap();
        for (lines, start) in [(0, 9), (1, 5), (2, 2), (3, 0), (9, 0)] {
            assert_eq!(start_of(&mut file, lines).await.unwrap(), start, "{lines}");
        }
        let long = "x".repeat(100_000);
        std::fs::write(&path, format!("{long}\n{long}\nlast\n")).unwrap();
        let mut file = File::open(&path).await.unwrap();
        assert_eq!(start_of(&mut file, 2).await.unwrap(), 100_001);
    }
}
