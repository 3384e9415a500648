//! Records, exactly: streamheader first, then a keyframe, then every number once, each record whole. Measures latency.

use super::{Complaint, FaultKind, Receipt, Start, Step, complain};
use crate::record::{Kind, Parsed, Record, parse};

#[derive(Debug)]
pub(crate) struct Records {
    start: Start,
    place: Place,
    /// Payload of the streamheader in force.
    header: Option<Vec<u8>>,
}

/// ```text
///  Header ──streamheader──▶ Keyframe ──keyframe──▶ After(n) ──n+1──▶ After(n+1) …
///                              ▲                      │
///                              └──other streamheader──┘
///  (a listener that may start anywhere begins at Any)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Any,
    Header,
    Keyframe,
    After(u64),
}

impl Records {
    pub(super) fn new(start: Start) -> Self {
        let place = match start {
            Start::Exact => Place::Header,
            Start::Anywhere => Place::Any,
        };
        Self { start, place, header: None }
    }

    pub(super) fn step(&mut self, bytes: &[u8], receipt: &mut Receipt<'_>) -> Result<Step, Complaint> {
        match parse(bytes) {
            Parsed::Partial => Ok(Step::More),
            Parsed::Torn(why) => complain(FaultKind::Torn, why),
            Parsed::Whole(record, length) => {
                self.accept(&record)?;
                if record.kind != Kind::Streamheader && record.sent >= receipt.live_since {
                    receipt.latency.record(receipt.at.since(record.sent));
                }
                Ok(Step::Take(length as u64))
            }
        }
    }

    fn accept(&mut self, record: &Record<'_>) -> Result<(), Complaint> {
        let found = record.sequence;
        self.place = match (self.place, record.kind) {
            (Place::Keyframe, Kind::Streamheader) if self.header.as_deref() == Some(record.payload) => {
                return complain(FaultKind::Repeat, "the streamheader came twice");
            }
            (place, Kind::Streamheader) => {
                let same = self.header.as_deref() == Some(record.payload);
                self.header = Some(record.payload.to_vec());
                match place {
                    Place::After(last) if same => Place::After(last),
                    _ if self.start == Start::Anywhere => Place::Any,
                    _ => Place::Keyframe,
                }
            }
            (Place::Header, _) => return complain(FaultKind::Start, format!("record {found} before the streamheader")),
            (Place::Keyframe, Kind::Delta) => {
                return complain(FaultKind::Start, format!("delta record {found} where a keyframe must be"));
            }
            (Place::Any | Place::Keyframe, _) => Place::After(found),
            (Place::After(last), _) if found > last + 1 => {
                return complain(FaultKind::Gap, format!("{} records missing after {last}", found - last - 1));
            }
            (Place::After(last), _) if found <= last => {
                return complain(FaultKind::Repeat, format!("record {found} after {last}"));
            }
            (Place::After(_), _) => Place::After(found),
        };
        Ok(())
    }
}

pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    match parse(bytes) {
        Parsed::Whole(..) => Some(true),
        Parsed::Partial => None,
        Parsed::Torn(_) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{kind_of, verdict};
    use super::super::{FaultKind, Format, Start};
    use crate::clock::Nanos;
    use crate::record::{Kind, Record};

    /// A stream as a picture: `H`/`I` streamheaders of two runs, `K3` keyframe 3, `d4` delta 4.
    fn stream(picture: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for word in picture.split_whitespace() {
            let (letter, number) = word.split_at(1);
            let sequence = number.parse().unwrap_or(0);
            let (kind, payload) = match letter {
                "K" => (Kind::Keyframe, "x"),
                "d" => (Kind::Delta, "yy"),
                header => (Kind::Streamheader, header),
            };
            Record { kind, sequence, sent: Nanos(1), payload: payload.as_bytes() }.encode(&mut out);
        }
        out
    }

    #[test]
    fn an_exact_listener_gets_header_then_keyframe_then_every_number_once() {
        use FaultKind::{Gap, Repeat, Start as S};
        for (picture, want) in [
            ("H K3 d4 d5 K6", None),
            ("K3 d4", Some(S)),
            ("H d4 d5", Some(S)),
            ("H K3 d5", Some(Gap)),
            ("H K3 d4 d4", Some(Repeat)),
            ("H K3 d4 d3", Some(Repeat)),
            ("H H K3", Some(Repeat)),
            ("H K3 H d4", None),
            ("H K3 I K0 d1", None),
            ("H K3 I d1", Some(S)),
        ] {
            assert_eq!(kind_of(verdict(Format::Records, Start::Exact, &stream(picture))), want, "{picture}");
        }
    }

    #[test]
    fn a_listener_that_starts_anywhere_finds_its_place_and_is_exact_from_there() {
        let whole = stream("H K3 d4 d5 d6");
        for cut in 1..whole.len() / 2 {
            assert!(verdict(Format::Records, Start::Anywhere, &whole[cut..]).is_ok(), "{cut}");
        }
        assert_eq!(kind_of(verdict(Format::Records, Start::Anywhere, &stream("d4 d6")[1..])), None);
        assert_eq!(kind_of(verdict(Format::Records, Start::Anywhere, &stream("H d4 d5"))), None);
        assert_eq!(kind_of(verdict(Format::Records, Start::Anywhere, &stream("d4 d6"))), Some(FaultKind::Gap));
    }

    #[test]
    fn a_torn_record_is_noticed() {
        let mut bytes = stream("H K3 d4");
        bytes.extend_from_slice(&stream("d5")[..20]);
        bytes.extend_from_slice(&stream("d6 d7"));
        assert_eq!(kind_of(verdict(Format::Records, Start::Exact, &bytes)), Some(FaultKind::Torn));
    }
}
