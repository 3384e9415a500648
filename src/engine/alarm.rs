//! How a sleeping shard is woken.

use std::fmt;
use std::sync::Arc;

/// Ends the sleep of one shard. Calling it in vain is harmless.
#[derive(Clone)]
pub struct Alarm(Arc<dyn Fn() + Send + Sync>);

impl Alarm {
    /// An alarm that calls this.
    pub fn new(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(ring))
    }

    /// An alarm of somebody who never sleeps.
    pub fn silent() -> Self {
        Self::new(|| {})
    }

    /// Wakes.
    pub fn ring(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm")
    }
}
