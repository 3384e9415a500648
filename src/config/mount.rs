//! `[[mount]]` and `[mount_defaults]`: one mount's table to its checked settings.
//!
//! - What is written wins over a default: a default that contradicts it gives way. Only what is written twice can contradict.
//! - The same reader serves both; for the defaults its settings are thrown away and only its errors count.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::address::{self, Claim};
use super::auth;
use super::limits;
use super::reader::{Parsed, Reader, Wrong};
use super::relay;
use super::secret::{self, Keys};
use super::tree::{Node, Value};
use super::value::{
    boolean, coalesce, cors, dscp, duration, extents, file, interval, line, media_type, number, one_of, or_none, pipeline, send_buffer,
    size, web_address, word,
};
use crate::engine::broadcast::{PATIENCE, Rules};
use crate::engine::pace::Coalesce;
use crate::fanout::placement::{SyncMethod, Wish};
use crate::fanout::recovery::{Limits, RecoverPolicy};
use crate::ingest::recording::Recording;
use crate::mount::intro::INTRO_MOST;
use crate::mount::{
    Fallback, IcyMetadata, Intro, OggChaining, OnSourceEnd, PathPattern, Pattern, Profile, PushSettings, Refuge, STRAGGLERS_FACTOR,
    Settings,
};
use crate::units::{ByteCount, Extent, Extents, MountPath};

/// The words of `on_source_end`.
pub(super) const ON_SOURCE_END: [(&str, OnSourceEnd); 2] = [("wait", OnSourceEnd::Wait), ("close", OnSourceEnd::Close)];
/// The words of `icy_metadata`.
pub(super) const ICY_METADATA: [(&str, IcyMetadata); 3] =
    [("auto", IcyMetadata::Auto), ("always", IcyMetadata::Always), ("off", IcyMetadata::Off)];
/// The words of `ogg_chaining`.
pub(super) const OGG_CHAINING: [(&str, OggChaining); 2] = [("keep", OggChaining::Keep), ("hide", OggChaining::Hide)];
/// The words of `half_close`; the value says whether a half closed peer is kept.
pub(super) const HALF_CLOSE: [(&str, bool); 2] = [("close", false), ("keep", true)];

const RING_DEFAULT: u64 = 64 << 20;
const RING_LEAST: u64 = 64 << 10;
const RING_MOST: u64 = 16 << 30;
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Reads every key but the path. Also returns the addresses with their places.
pub(super) fn read(
    reader: &mut Reader<'_>,
    path: MountPath,
    check: &dyn Fn(&str) -> Result<(), String>,
) -> (Settings, Vec<Claim<SocketAddr>>) {
    let pipeline = reader.take("pipeline", |node| pipeline(node, check));
    let relay = relay::read(reader);
    if pipeline.is_some() && !relay.is_empty() {
        let at = reader.whereabouts("pipeline");
        reader.wrong("relay", format!("is written beside pipeline{at}"), "a mount is filled by one of the two");
    }
    let filled = pipeline.is_some() || reader.failed("pipeline") || !relay.is_empty() || reader.failed("relay");
    let push = push(reader, filled);
    let content_type = reader.take("content_type", media_type).map(Into::into);
    let profile = profile(reader);
    let claims = reader.take("tcp", address::inets).unwrap_or_default();
    let wish = wish(reader);
    let keep = reader.take("keep", extents).unwrap_or(Extent::Time(Duration::from_secs(10)).into());
    let lags = lags(reader, &wish.burst);
    let ring_max = ring_max(reader, [("keep", &keep), ("burst", &wish.burst), ("soft_limit", &lags.soft), ("hard_limit", &lags.hard)]);
    let seconds = Duration::from_secs;
    let rules = Rules {
        wish,
        limits: lags,
        recover: reader.take("recover", word).unwrap_or(RecoverPolicy::Keyframe),
        resend_streamheader: reader.take("resend_streamheader", boolean).unwrap_or(true),
        patience: PATIENCE,
        idle_timeout: reader.take("idle_timeout", or_none(duration(seconds(1)..=YEAR, true))).unwrap_or(Some(seconds(60))),
        max_duration: reader.take("max_listener_duration", or_none(duration(seconds(1)..=YEAR, true))).flatten(),
        coalesce: reader.take("coalesce", coalesce).unwrap_or(Coalesce { min: Duration::from_millis(20), max: Duration::from_millis(500) }),
        send_buffer: reader.take("send_buffer", send_buffer).flatten(),
        dscp: reader.take("dscp", or_none(dscp)).flatten(),
        keep_half_closed: reader.take("half_close", one_of(&HALF_CLOSE)).unwrap_or(false),
        memory_max: ring_max * STRAGGLERS_FACTOR,
    };
    let max_listeners = reader.take("max_listeners", or_none(number(1..=1_000_000, true))).flatten();
    let limits = limits::read(reader, max_listeners);
    let icy_metaint = reader.take("icy_metaint", interval).unwrap_or(16_000);
    let settings = Settings {
        path,
        profile,
        content_type,
        pipeline,
        relay,
        push,
        tcp: claims.iter().map(|claim| claim.address).collect(),
        keep,
        ring_max: ByteCount(ring_max),
        max_listeners,
        limits,
        redirect_on_overflow: limits::redirect(reader),
        on_source_end: reader.take("on_source_end", one_of(&ON_SOURCE_END)).unwrap_or_default(),
        linger: reader.take("linger", or_none(duration(Duration::ZERO..=YEAR, true))).flatten(),
        fallback: fallback(reader),
        intro: reader.take("intro", or_none(|node| intro(node, icy_metaint))).flatten().map(Arc::new),
        allow_query: reader.take("allow_query", boolean).unwrap_or(false),
        icy_metadata: reader.take("icy_metadata", one_of(&ICY_METADATA)).unwrap_or_default(),
        icy_metaint,
        charset: reader.take("charset", word).unwrap_or_default(),
        ogg_chaining: reader.take("ogg_chaining", one_of(&OGG_CHAINING)).unwrap_or_default(),
        cors: reader.take("cors", cors).unwrap_or_default(),
        listen_auth: auth::listen(reader, !claims.is_empty()),
        announce: auth::announce(reader),
        rules,
    };
    (settings, claims)
}

/// How encoders that push are taken; not at all where a pipeline fills the mount.
fn push(reader: &mut Reader<'_>, has_pipeline: bool) -> Option<PushSettings> {
    const KEYS: Keys = Keys { plain: "push_password", file: "push_password_file", hash: "push_password_hash" };
    let seconds = Duration::from_secs;
    let settings = PushSettings {
        password: secret::password(reader, KEYS),
        source_timeout: reader.take("source_timeout", duration(seconds(1)..=seconds(3600), false)).unwrap_or(seconds(10)),
        takeover: reader.take("takeover", boolean).unwrap_or(false),
        stream_auth: auth::stream(reader),
    };
    (!has_pipeline).then_some(settings)
}

/// What listeners hear while the source is away. Whether there is such a mount, and no circle, is looked at when all are known.
fn fallback(reader: &mut Reader<'_>) -> Fallback {
    let fallback = Fallback {
        to: reader.take("fallback", or_none(refuge)).flatten(),
        brings_back: reader.take("override", boolean).unwrap_or(false),
        when_full: reader.take("fallback_when_full", boolean).unwrap_or(false),
        ordered: false,
    };
    if fallback.when_full && fallback.file().is_some() {
        let at = reader.whereabouts("fallback");
        reader.wrong("fallback_when_full", format!("but fallback is a file{at}, which has no places of its own"), "let it be a mount");
    }
    fallback
}

fn intro(node: &Node, interval: u32) -> Parsed<Intro> {
    let wrong = |problem: String| vec![Wrong::new(problem, "name a file that flumen may read, such as \"file:welcome.mp3\"")];
    let path = file(node).ok_or_else(|| wrong("is no file".to_owned()))?;
    load_intro(&path, interval).map_err(wrong)
}

/// The intro that a file is, or why it is none.
pub(super) fn load_intro(path: &Path, interval: u32) -> Result<Intro, String> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(INTRO_MOST + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().map_err(|why| format!("cannot be read: {why}"))?;
    if bytes.len() as u64 > INTRO_MOST {
        return Err(format!("is larger than {}", ByteCount(INTRO_MOST)));
    }
    let media_type = Recording::media_type_of(&bytes).ok_or("is of no kind that is known here")?;
    Ok(Intro::new(path.into(), media_type, &bytes, interval))
}

fn refuge(node: &Node) -> Parsed<Refuge> {
    let Some(path) = file(node) else { return word(node).map(Refuge::Mount) };
    let path: Arc<Path> = path.into();
    let remedy = "name a file that flumen may read: MP3, AAC in ADTS, or Vorbis, Opus, FLAC or Speex in Ogg";
    Recording::open(&path).map(|_| Refuge::File(Arc::clone(&path))).map_err(|why| vec![Wrong::new(why.to_string(), remedy)])
}

fn profile(reader: &mut Reader<'_>) -> Profile {
    Profile {
        name: reader.take("name", line(255)),
        description: reader.take("description", line(1024)),
        genre: reader.take("genre", line(255)),
        url: reader.take("url", web_address),
        public: reader.take("public", boolean).unwrap_or(false),
        hidden: reader.take("hidden", boolean).unwrap_or(false),
    }
}

fn wish(reader: &mut Reader<'_>) -> Wish {
    let method = reader.take("sync", word).unwrap_or(SyncMethod::BurstKeyframe);
    let burst = reader.take("burst", extents);
    let burst_max = reader.take("burst_max", extents).unwrap_or(Extents::NONE);
    if let Some((least, most)) = burst.as_ref().and_then(|burst| contradiction(burst, &burst_max)) {
        let problem = format!("asks for {least}, more than the {most} of burst_max{}", reader.whereabouts("burst_max"));
        reader.wrong("burst", problem, "lower burst or raise burst_max");
    }
    let burst = burst.unwrap_or_else(|| {
        let usual = [Extent::Time(Duration::from_secs(5)), Extent::Bytes(ByteCount(48 << 10))];
        give_way(&usual, &burst_max, Extent::min_alike)
    });
    Wish { method, burst, burst_max }
}

fn lags(reader: &mut Reader<'_>, burst: &Extents) -> Limits {
    let soft = reader.take("soft_limit", extents);
    let hard = reader.take("hard_limit", extents);
    if let Some((low, high)) = soft.as_ref().zip(hard.as_ref()).and_then(|(soft, hard)| contradiction(soft, hard)) {
        let problem =
            format!("is {low}, more than the {high} of hard_limit{}: nobody would ever be recovered", reader.whereabouts("hard_limit"));
        reader.wrong("soft_limit", problem, "lower soft_limit or raise hard_limit");
    }
    // A newcomer is behind by the burst; the usual limits leave a quarter more before anything happens.
    let least = burst.iter().filter_map(|extent| if let Extent::Time(span) = extent { Some(span + span / 4) } else { None }).max();
    let seconds = Duration::from_secs;
    let usual = |usual: u64, beyond: u64| [Extent::Time(least.map_or(seconds(usual), |least| seconds(usual).max(least + seconds(beyond))))];
    let none = Extents::NONE;
    Limits {
        soft: soft.clone().unwrap_or_else(|| give_way(&usual(10, 0), hard.as_ref().unwrap_or(&none), Extent::min_alike)),
        hard: hard.unwrap_or_else(|| give_way(&usual(30, 20), soft.as_ref().unwrap_or(&none), Extent::max_alike)),
    }
}

/// What is allowed and hardly meant: limits that act on a newcomer who does nothing wrong, a mount that nobody can fill.
pub(super) fn warnings(path: &str, mount: &Settings) -> Vec<String> {
    let Rules { wish, limits, .. } = &mount.rules;
    let below = |(key, limit, act): (&str, &Extents, &str)| {
        let (burst, limit) = contradiction(&wish.burst, limit)?;
        Some(format!(
            "mount {path}: {key} = \"{limit}\" is below the {burst} of burst: a newcomer who falls back at all is {act}; raise it"
        ))
    };
    let closed = mount.push.as_ref().is_some_and(|push| push.password.is_none() && push.stream_auth.is_none()).then(|| {
        format!("mount {path}: nothing will ever be heard: it has no pipeline, and encoders have no password; set [push] password")
    });
    let beneath = [("soft_limit", &limits.soft, "recovered"), ("hard_limit", &limits.hard, "removed")];
    beneath.into_iter().filter_map(below).chain(closed).collect()
}

/// A default, changed as far as what is written in the same unit asks for.
fn give_way(usual: &[Extent], written: &Extents, choose: fn(Extent, Extent) -> Extent) -> Extents {
    let changed = usual.iter().map(|&usual| written.iter().fold(usual, choose)).collect();
    Extents::new(changed).unwrap_or_default()
}

/// The first extent of `low` that is above one of the same unit in `high`.
fn contradiction(low: &Extents, high: &Extents) -> Option<(Extent, Extent)> {
    low.iter().flat_map(|low| high.iter().map(move |high| (low, high))).find(|&(low, high)| low.max_alike(high) != high && low.alike(high))
}

/// Extents compared within a unit; between units nothing can be said.
trait Alike: Sized {
    fn alike(self, other: Self) -> bool;
    fn min_alike(self, other: Self) -> Self;
    fn max_alike(self, other: Self) -> Self;
}

impl Alike for Extent {
    fn alike(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    fn min_alike(self, other: Self) -> Self {
        match (self, other) {
            (Self::Chunks(a), Self::Chunks(b)) => Self::Chunks(a.min(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Self::Bytes(a.min(b)),
            (Self::Time(a), Self::Time(b)) => Self::Time(a.min(b)),
            (a, _) => a,
        }
    }

    fn max_alike(self, other: Self) -> Self {
        if self.alike(other) && self.min_alike(other) == self { other } else { self }
    }
}

/// The most memory of the history: what is written, else the default or twice what the largest extent in bytes asks for.
fn ring_max(reader: &mut Reader<'_>, wanted: [(&'static str, &Extents); 4]) -> u64 {
    let written = reader.take("ring_max", size(RING_LEAST..=RING_MOST)).map(|size| size.0);
    let most = written.unwrap_or(RING_MOST);
    let mut largest = 0;
    for (key, extents) in wanted {
        let bytes =
            extents.iter().filter_map(|extent| if let Extent::Bytes(bytes) = extent { Some(bytes.0) } else { None }).max().unwrap_or(0);
        if bytes > most && reader.given(key) {
            let held = ByteCount(most);
            let problem = format!("is more than the {held} that the history may take by ring_max{}", reader.whereabouts("ring_max"));
            let remedy = if written.is_some() { "lower it or raise ring_max" } else { "lower it: a history takes at most 16GiB" };
            reader.wrong(key, problem, remedy);
        }
        largest = largest.max(bytes);
    }
    written.unwrap_or_else(|| largest.saturating_mul(2).clamp(RING_DEFAULT, RING_MOST))
}

/// Where a mount is, or where publishers make some.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Where {
    At(MountPath),
    Below(PathPattern),
}

/// The path of a mount: one that no other page has. Or a pattern: what it makes is looked at when it is made.
pub(super) fn path(node: &Node) -> Parsed<Where> {
    if matches!(&node.value, Value::Text(text) | Value::Loose(text) if PathPattern::is_meant(text)) {
        return word(node).map(Where::Below);
    }
    let path: MountPath = word(node)?;
    match collision(path.as_str()) {
        Some(whose) => Err(vec![Wrong::new(format!("is taken by {whose}"), "choose another path, such as \"/radio.mp3\"")]),
        None => Ok(Where::At(path)),
    }
}

/// Mounts of one pattern, unless it says otherwise.
const MADE_USUALLY: u64 = 100;
/// Most mounts of one pattern.
const MADE_MOST: u64 = 10_000;
/// For how long a mount that was made is kept while nobody publishes to it, unless its pattern says otherwise.
const MADE_LINGERS: Duration = Duration::from_secs(10);

/// What a pattern makes, of settings that were read as any mount's; `max_mounts` is not for others.
pub(super) fn pattern(reader: &mut Reader<'_>, place: &Where, settings: &Settings) -> Option<Pattern> {
    let most = reader.take("max_mounts", number(1..=MADE_MOST, false));
    let Where::Below(paths) = place else {
        if most.is_some() {
            reader.wrong("max_mounts", "is for patterns: there is one mount at this path", "remove it, or write a path with a *");
        }
        return None;
    };
    // An empty list of sockets is no socket: `flumen check` says so of every mount.
    let asks = |key: &&str| reader.given(key) && (*key != "tcp" || !settings.tcp.is_empty());
    for key in ["pipeline", "relay", "tcp"].into_iter().filter(asks).collect::<Vec<_>>() {
        let problem = "cannot be where path is a pattern: its mounts are made by encoders that push, and for HTTP";
        reader.wrong(key, problem, "remove it, or give the mount a path of its own");
    }
    if settings.linger.is_none() && reader.given("linger") {
        let remedy = "write how long a mount stays that nobody publishes to, such as \"10s\"";
        reader.wrong("linger", "would leave a mount for ever that was made on the fly", remedy);
    }
    let mounts = Settings { linger: settings.linger.or(Some(MADE_LINGERS)), ..settings.clone() };
    Some(Pattern { paths: paths.clone(), most: most.unwrap_or(MADE_USUALLY) as usize, mounts })
}

/// Whose a path is that no mount can have.
pub(super) fn collision(path: &str) -> Option<&'static str> {
    const PAGES: [&str; 11] = [
        "/metrics",
        "/player",
        "/healthz",
        "/readyz",
        "/status-json.xsl",
        "/status.xsl",
        "/server_version.xsl",
        "/admin.cgi",
        "/7.html",
        "/currentsong",
        "/stats",
    ];
    const TREES: [&str; 3] = ["/api", "/admin", "/console"];
    const PLAYLISTS: [&str; 3] = [".m3u", ".pls", ".xspf"];
    let below = |tree: &&str| path.strip_prefix(*tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if PAGES.contains(&path) {
        Some("a page of flumen's own")
    } else if TREES.iter().any(below) {
        Some("flumen's own pages below /api, /admin and /console")
    } else if PLAYLISTS.iter().any(|ending| path.ends_with(ending)) {
        Some("the playlists that every mount has (.m3u, .pls, .xspf)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_playlists_are_not_for_mounts() {
        for taken in [
            "/metrics",
            "/healthz",
            "/readyz",
            "/status-json.xsl",
            "/admin.cgi",
            "/console",
            "/console/console.js",
            "/player",
            "/stats",
            "/api",
            "/api/v1/mounts",
            "/admin/x",
            "/radio.m3u",
            "/a/b.xspf",
            "/x.pls",
        ] {
            assert!(collision(taken).is_some(), "{taken}");
        }
        for free in ["/radio.mp3", "/metrics.ogg", "/apis", "/administration", "/live/api", "/radio.m3u8", "/consoles", "/player.mp3"] {
            assert!(collision(free).is_none(), "{free}");
        }
    }

    #[test]
    fn extents_contradict_only_within_a_unit() {
        for (low, high, want) in [
            ("5s", "4s", true),
            ("5s", "5s", false),
            ("5s", "none", false),
            ("none", "5s", false),
            ("5s", "10B", false),
            ("5s, 20B", "10s, 10B", true),
            ("5s, 20 chunks", "1h, 1GiB", false),
        ] {
            let found = contradiction(&low.parse().expect(low), &high.parse().expect(high));
            assert_eq!(found.is_some(), want, "{low} {high}");
        }
    }
}
