//! `Range` on a stream that has neither beginning nor end: it cannot be honoured, so it is answered with all there is, a 200.
//!
//! One kind of range is hardly a wish to listen: Apple's players first ask for `bytes=0-1`, to learn what is there. Answered by a
//! 206 they go on with an enormous range and without `Icy-MetaData`, so that no title is ever shown; answered by a 200 they ask
//! again, plainly and with it, and often leave the first request open. Whoever counts both counts one listener twice.

/// Bytes that nobody listens to.
const PROBE_MOST: u64 = 64;

/// Whether somebody who sends this `Range` only wants to know what is there: so few bytes, from the beginning.
pub fn probes(range: &str) -> bool {
    let Some((unit, set)) = range.split_once('=') else { return false };
    let Some((first, last)) = set.split_once('-') else { return false };
    let number = |text: &str| {
        let text = text.trim();
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    unit.trim().eq_ignore_ascii_case("bytes") && number(first) == Some(0) && number(last).is_some_and(|last| last < PROBE_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_few_bytes_from_the_beginning_are_a_probe() {
        for probe in ["bytes=0-1", "bytes=0-0", "Bytes = 0 - 1", "bytes=0-63", "bytes=00-01"] {
            assert!(probes(probe), "{probe}");
        }
        for listener in [
            "bytes=0-",
            "bytes=0-64",
            "bytes=0-1073741822",
            "bytes=0-18446744073709551616",
            "bytes=1-1",
            "bytes=100-",
            "bytes=-1",
            "bytes=0-1,5-6",
            "bytes=0--1",
            "bytes=0-+1",
            "bytes=",
            "bytes",
            "items=0-1",
            "",
        ] {
            assert!(!probes(listener), "{listener}");
        }
    }
}
