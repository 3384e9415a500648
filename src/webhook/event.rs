//! What webhooks are told: kinds of events, and an event as it is written.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// What an event takes in memory at the very most: what clients say is cut, a mount's path has 255 bytes, and the longest is what an
/// element of a pipeline says of its failure.
pub(super) const EVENT_BYTES: u64 = 4096;

/// Kinds of events, in the words of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody listens.
    ListenerJoined,
    /// Somebody has left.
    ListenerLeft,
    /// A source delivers.
    SourceUp,
    /// A source has gone.
    SourceDown,
    /// A mount or the server is nearly full.
    LimitNear,
    /// A certificate has few days left, or none.
    CertificateExpiring,
    /// A source comes and goes.
    SourceFlapping,
}

impl Kind {
    /// All kinds, with their words.
    pub const WORDS: [(&'static str, Self); 7] = [
        ("listener_joined", Self::ListenerJoined),
        ("listener_left", Self::ListenerLeft),
        ("source_up", Self::SourceUp),
        ("source_down", Self::SourceDown),
        ("limit_near", Self::LimitNear),
        ("certificate_expiring", Self::CertificateExpiring),
        ("source_flapping", Self::SourceFlapping),
    ];

    /// The word.
    pub fn label(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// Something that happened. What does not apply is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// What kind of thing.
    pub(super) event: &'static str,
    /// When, in seconds since 1970.
    time: f64,
    /// Where; empty: it is about the server.
    mount: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<ListenerEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceEvent>,
    /// In a sentence, where the rest does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip)]
    pub(super) kind: Option<Kind>,
}

/// Who joined or left.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ListenerEvent {
    /// Its number.
    pub id: u64,
    /// Address and port, or `unix`.
    pub peer: String,
    /// What it says it is.
    pub user_agent: String,
    /// Who it is, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Why it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub departure: Option<&'static str>,
    /// How long it stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// What it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What came or went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceEvent {
    /// The media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Why it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Event {
    fn new(kind: Kind, mount: &str) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let time = (time * 1e3).round() / 1e3;
        Self { event: kind.label(), time, mount: mount.to_owned(), listener: None, source: None, message: None, kind: Some(kind) }
    }

    /// Something about a listener.
    pub fn of_listener(kind: Kind, mount: &str, listener: ListenerEvent) -> Self {
        Self { listener: Some(listener), ..Self::new(kind, mount) }
    }

    /// Something about a source.
    pub fn of_source(kind: Kind, mount: &str, source: SourceEvent) -> Self {
        Self { source: Some(source), ..Self::new(kind, mount) }
    }

    /// Something that needs attention, in a sentence; an empty mount: it is about the server.
    pub fn of_advice(kind: Kind, mount: &str, message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..Self::new(kind, mount) }
    }
}
