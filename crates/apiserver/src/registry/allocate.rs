//! A bitmap of what is taken out of a fixed range: addresses and ports.

/// Which of `len` numbers are taken.
#[derive(Debug, Clone)]
pub(super) struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// Nothing is taken.
    pub(super) fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether `at` is taken.
    pub(super) fn is_taken(&self, at: usize) -> bool {
        self.words.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Takes `at`; false when it was taken already or is out of range.
    pub(super) fn take(&mut self, at: usize) -> bool {
        if at >= self.len || self.is_taken(at) {
            return false;
        }
        self.words[at / 64] |= 1 << (at % 64);
        true
    }

    /// Gives `at` back.
    pub(super) fn release(&mut self, at: usize) {
        if let Some(word) = self.words.get_mut(at / 64) {
            *word &= !(1 << (at % 64));
        }
    }

    /// Takes the first free number at or after `start`, wrapping around within `from..len`
    /// and then looking below `from`; `None` when all are taken.
    pub(super) fn take_any(&mut self, from: usize, start: usize) -> Option<usize> {
        let start = start.clamp(from.min(self.len), self.len);
        let free = self
            .free_in(start, self.len)
            .or_else(|| self.free_in(from.min(self.len), start))
            .or_else(|| self.free_in(0, from.min(self.len)))?;
        self.take(free).then_some(free)
    }

    fn free_in(&self, from: usize, to: usize) -> Option<usize> {
        let mut at = from;
        while at < to {
            // Whole words that are full are skipped at once.
            if at.is_multiple_of(64) && self.words.get(at / 64) == Some(&u64::MAX) {
                at += 64;
            } else if self.is_taken(at) {
                at += 1;
            } else {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_once_and_given_back() {
        let mut bits = Bitmap::new(70);
        assert!(bits.take(69) && !bits.take(69) && !bits.take(70));
        bits.release(69);
        assert!(bits.take(69));
    }

    #[test]
    fn every_number_can_be_had_upper_band_first() {
        let mut bits = Bitmap::new(130);
        let order: Vec<usize> = std::iter::from_fn(|| bits.take_any(16, 100)).collect();
        assert_eq!(order.len(), 130);
        assert_eq!((order[0], order[30], order[129]), (100, 16, 15));
        assert_eq!(bits.take_any(16, 0), None);
    }
}
