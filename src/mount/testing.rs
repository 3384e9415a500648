//! Fixtures for the tests of the rooms above.

use std::time::Duration;

use super::{Announce, Cors, Fallback, IcyMetadata, OggChaining, OnSourceEnd, Profile, RelaySettings, Settings};
use crate::engine::broadcast::Rules;
use crate::engine::pace::Coalesce;
use crate::fanout::placement::{SyncMethod, Wish};
use crate::fanout::recovery::{Limits, RecoverPolicy};
use crate::units::{ByteCount, Extents};

/// Plain settings: a megabyte of history, nobody is recovered or removed, data waits 5 ms.
pub(crate) fn settings(path: &str) -> Settings {
    let ring_max = ByteCount(1 << 20);
    Settings {
        path: path.parse().expect("a path"),
        profile: Profile::default(),
        content_type: None,
        pipeline: None,
        relay: RelaySettings::default(),
        push: None,
        tcp: Vec::new(),
        keep: Extents::NONE,
        ring_max,
        max_listeners: None,
        limits: crate::engine::admission::Limits::default(),
        redirect_on_overflow: None,
        on_source_end: OnSourceEnd::Wait,
        linger: None,
        fallback: Fallback::default(),
        intro: None,
        allow_query: false,
        icy_metadata: IcyMetadata::Auto,
        icy_metaint: 16_000,
        charset: crate::wire::charset::Charset::default(),
        ogg_chaining: OggChaining::Keep,
        listen_auth: None,
        announce: Announce::default(),
        cors: Cors::Any,
        rules: Rules {
            wish: Wish { method: SyncMethod::Latest, burst: Extents::NONE, burst_max: Extents::NONE },
            limits: Limits::default(),
            recover: RecoverPolicy::None,
            resend_streamheader: true,
            patience: Duration::ZERO,
            idle_timeout: None,
            max_duration: None,
            coalesce: Coalesce { min: Duration::from_millis(5), max: Duration::from_millis(5) },
            send_buffer: None,
            dscp: None,
            keep_half_closed: false,
            memory_max: 2 * ring_max.0,
        },
    }
}
