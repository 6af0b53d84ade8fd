//! Bytes for tests of decoders: what was valid once, changed a little.

/// A changed copy: bits flipped, bytes replaced by extremes, pieces cut out,
/// doubled or cut off. Which of it follows from `seed`.
pub fn mutated(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() + 1);
        let len = random.below(16).min(out.len() - at);
        match random.below(6) {
            0 if at < out.len() => out[at] ^= 1 << random.below(8),
            1 if at < out.len() => out[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => {
                out.drain(at..at + len);
            }
            3 => {
                let piece = out[at..at + len].to_vec();
                out.splice(at..at, piece);
            }
            4 => out.truncate(at),
            _ => {
                let piece: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
                out.splice(at..at, piece);
            }
        }
    }
    out
}

/// Numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}
