//! Everything that is left to chance in a world, drawn from its seed.

use handoff_proto::Micros;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded source of choices. Parts of a world take a stream each: what one draws changes nothing for the others.
#[derive(Clone, Debug)]
pub struct Chances {
    generator: ChaCha8Rng,
}

impl Chances {
    /// The choices of `seed` for the part of the world that `stream` stands for.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(stream);
        Self { generator }
    }

    /// Draws 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// Draws 32 bits.
    pub fn word(&mut self) -> u32 {
        self.generator.next_u32()
    }

    /// Draws from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        debug_assert!(least <= most);
        // The bias of a remainder is below 2^-40 for every range in use.
        least + self.bits() % (most - least + 1)
    }

    /// Draws a span of time.
    pub fn span(&mut self, least: Micros, most: Micros) -> Micros {
        Micros(self.between(least.0, most.0))
    }

    /// Says yes so many times in a hundred.
    pub fn percent(&mut self, yes: u64) -> bool {
        self.between(0, 99) < yes
    }

    /// Draws a position in a list of `count` things, of which there must be one.
    pub fn position(&mut self, count: usize) -> usize {
        let last = u64::try_from(count.saturating_sub(1)).unwrap_or(0);
        usize::try_from(self.between(0, last)).unwrap_or(0)
    }

    /// Draws one of several.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.position(choices.len())]
    }
}
