//! The framing of a body that is a stream: taken off, and known when it is done.

use serde::{Deserialize, Serialize};

use crate::wire::chunked::{Chunked, NotChunked};
use crate::wire::head::Body;

/// How a stream is framed in its connection. It can be written down and read again: another process may go on with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Framing {
    /// So many bytes to come.
    Left(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Framing {
    /// The framing that a head announced. A body that is not there, nobody takes.
    pub(super) fn of(body: Body) -> Self {
        match body {
            Body::None => Self::Left(0),
            Body::Length(length) => Self::Left(length),
            Body::Chunked => Self::Chunked(Chunked::default()),
            Body::UntilClose => Self::UntilClose,
        }
    }

    /// Whether all of it has come.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Left(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Whether the end of the connection is the end of the stream, and not somewhere in its middle.
    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// Gives the stream's bytes among these.
    ///
    /// # Errors
    /// When the framing is not what was announced; what came before that has been given.
    pub(super) fn take<'a>(&mut self, bytes: &'a [u8], mut give: impl FnMut(&'a [u8])) -> Result<(), NotChunked> {
        match self {
            Self::Chunked(chunked) => return chunked.take(bytes, give),
            Self::Left(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= most as u64;
                if most > 0 {
                    give(&bytes[..most]);
                }
            }
            Self::UntilClose if !bytes.is_empty() => give(bytes),
            Self::UntilClose => {}
        }
        Ok(())
    }
}
