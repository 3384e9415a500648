//! Readers of what listeners ask for, and of what other servers answer; and writers of what is repeated of it.

use std::collections::BTreeSet;

use super::{is_one_harmless_line, parted};
use crate::access::rule::Verdict;
use crate::admin;
use crate::bouncer;
use crate::delivery::http;
use crate::fanout::placement::{SyncMethod, Wish};
use crate::units::{Extent, Extents};
use crate::wire::listing;
use crate::wire::playlist::Form;

/// What is asked for can be had, or what is wrong is said in a line; a maximum is above its minimum.
pub(super) fn of_placement(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else { return };
    let usual = Wish { method: SyncMethod::BurstKeyframe, burst: Extents::NONE, burst_max: Extents::NONE };
    match http::wished(query, &usual) {
        Err(why) => assert!(!why.is_empty() && is_one_harmless_line(&why), "{why:?}"),
        Ok(None) => {}
        Ok(Some(wish)) => {
            let of = |extents: &Extents, unit: fn(Extent) -> Option<u128>| extents.iter().filter_map(unit).collect::<Vec<_>>();
            for unit in [
                |extent| if let Extent::Chunks(chunks) = extent { Some(u128::from(chunks)) } else { None },
                |extent| if let Extent::Bytes(bytes) = extent { Some(u128::from(bytes.0)) } else { None },
                |extent| if let Extent::Time(time) = extent { Some(time.as_nanos()) } else { None },
            ] {
                let (least, most) = (of(&wish.burst, unit), of(&wish.burst_max, unit));
                assert!(least.iter().max() <= most.iter().min() || most.is_empty() || least.is_empty(), "{wish:?}");
            }
            let asked = format!("burst={}&burst_max={}&sync={}", wish.burst.exact(), wish.burst_max.exact(), wish.method.label());
            assert_eq!(http::wished(&asked, &usual), Ok(Some(wish)), "{asked}");
        }
    }
}

/// However a stream is called, its playlist has one entry, in every form. A zero byte parts its name from a query.
pub(super) fn of_playlist(bytes: &[u8]) {
    let (title, query) = parted(bytes);
    let (title, query) = (String::from_utf8_lossy(title), String::from_utf8_lossy(query));
    // As an address is written: nothing that is no part of one.
    let query: String = query.chars().filter(char::is_ascii_graphic).collect();
    let url = format!("http://localhost:8000/radio.mp3?{query}");
    assert_eq!(Form::M3u.write(&title, &url).lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(), [&url]);
    let pls = Form::Pls.write(&title, &url);
    let keys: BTreeSet<_> = pls.lines().skip(1).filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(pls.lines().count() == 6 && keys.len() == 5, "{pls:?}");
    let xspf = Form::Xspf.write(&title, &url);
    let document = roxmltree::Document::parse(&xspf).unwrap_or_else(|error| panic!("{error}: {xspf:?}"));
    let of = |name| document.descendants().filter(|node| node.has_tag_name(("http://xspf.org/ns/0/", name))).collect::<Vec<_>>();
    let (locations, titles) = (of("location"), of("title"));
    assert!(locations.len() == 1 && titles.len() == 1, "{xspf:?}");
    assert_eq!(locations[0].text(), Some(&*url));
}

/// What another server lists are paths, and not more of them than are believed.
pub(super) fn of_listing(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let paths = listing::streamlist(&text);
    assert!(paths.len() <= listing::PATHS_MOST && paths.iter().all(|path| path.starts_with('/') && text.contains(&**path)));
    let (known, counted) = (listing::status(&text), listing::occupancy(&text));
    assert_eq!(known, counted.map(|all| all.into_iter().map(|(path, _)| path).collect::<Vec<_>>()));
    let known = known.unwrap_or_default();
    assert!(known.len() <= listing::PATHS_MOST && known.iter().all(|path| path.starts_with('/')), "{known:?}");
}

/// What a backend says of a refusal is one short line; and who is asked about cannot add to the question. A zero byte parts the fields
/// of the answer from the path that somebody asks for, and another one that from their name.
pub(super) fn of_backend(bytes: &[u8]) {
    let Some((&status, rest)) = bytes.split_first() else { return };
    let (fields, rest) = parted(rest);
    let (asked, name) = parted(rest);
    let texts = [fields, asked, name].map(String::from_utf8_lossy);
    let [fields, asked, name] = texts.each_ref().map(|text| &**text);
    let fields: Vec<_> = fields.lines().filter_map(|line| line.split_once(':')).collect();
    let (said, message, form) = bouncer::understood(u16::from(status) * 3, &fields, asked, name);
    if let Some(Verdict::Granted(grant)) = said {
        assert!(fields.iter().any(|(name, value)| name.eq_ignore_ascii_case("icecast-auth-user") && value.trim().starts_with('1')));
        assert!(grant.lasts.is_none_or(|lasts| !lasts.is_zero()), "for no time at all");
    }
    assert!(message.is_none_or(|message| is_one_harmless_line(&message) && message.chars().count() <= 200 && !message.is_empty()));
    let names: Vec<_> = form.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")).0).collect();
    assert_eq!(names, ["action", "server", "port", "client", "mount", "user", "pass", "ip", "agent", "ClientHeader.x-token"], "{form:?}");
    assert!(form.is_ascii() && form.len() < 64 * 1024);
    let heard = |field| admin::in_query(&form, field).expect("it is there");
    for (field, given) in [("mount", asked), ("user", name), ("pass", name), ("ClientHeader.x-token", asked)] {
        assert!(given.as_bytes().starts_with(&heard(field)), "{field}: {form:?}");
    }
}
