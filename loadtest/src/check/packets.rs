//! GDP packets: each whole, caps before buffers, and what the buffers carry checked as records if it is records.

use super::records::Records;
use super::{Complaint, FaultKind, Receipt, Start, Step, complain};
use crate::gdp::{FLAG_DELTA_UNIT, FLAG_HEADER, Kind, Parsed, parse};
use crate::record;

#[derive(Debug)]
pub(crate) struct Packets {
    start: Start,
    caps_seen: bool,
    data_seen: bool,
    inner: Option<Records>,
}

impl Packets {
    pub(super) fn new(start: Start) -> Self {
        Self { start, caps_seen: false, data_seen: false, inner: None }
    }

    pub(super) fn step(&mut self, bytes: &[u8], receipt: &mut Receipt<'_>) -> Result<Step, Complaint> {
        let (kind, payload, length) = match parse(bytes) {
            Parsed::Partial => return Ok(Step::More),
            Parsed::Torn(why) => return complain(FaultKind::Torn, why),
            Parsed::Whole { kind, payload, length } => (kind, payload, length),
        };
        match kind {
            Kind::Caps => self.caps_seen = true,
            Kind::Event => {}
            Kind::Buffer { flags } => self.buffer(flags, payload, receipt)?,
        }
        Ok(Step::Take(length as u64))
    }

    fn buffer(&mut self, flags: u16, payload: &[u8], receipt: &mut Receipt<'_>) -> Result<(), Complaint> {
        let exact = self.start == Start::Exact;
        if exact && !self.caps_seen {
            return complain(FaultKind::Start, "a buffer before the caps");
        }
        if flags & FLAG_HEADER == 0 {
            if exact && !self.data_seen && flags & FLAG_DELTA_UNIT != 0 {
                return complain(FaultKind::Start, "the first data buffer is a delta");
            }
            self.data_seen = true;
        }
        if self.inner.is_none() && payload.starts_with(&record::MAGIC) {
            self.inner = Some(Records::new(self.start));
        }
        let Some(inner) = &mut self.inner else { return Ok(()) };
        // Buffers are whole records here: a record cut by a packet's end is torn.
        let mut rest = payload;
        while !rest.is_empty() {
            match inner.step(rest, receipt)? {
                Step::Take(length) if length <= rest.len() as u64 => rest = &rest[length as usize..],
                _ => return complain(FaultKind::Torn, "a buffer ends within a record"),
            }
        }
        Ok(())
    }
}

pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    match parse(bytes) {
        // Only a header with a checksum can be told from chance.
        Parsed::Whole { .. } => Some(bytes[2] & 1 == 1),
        Parsed::Partial => None,
        Parsed::Torn(_) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{kind_of, verdict};
    use super::super::{FaultKind, Format, Start};
    use crate::clock::Nanos;
    use crate::gdp::{self, FLAG_DELTA_UNIT, FLAG_HEADER};
    use crate::record::{Kind, Record};

    fn packet(kind: Kind, sequence: u64) -> Vec<u8> {
        let (mut inner, mut out) = (Vec::new(), Vec::new());
        Record { kind, sequence, sent: Nanos(1), payload: b"p" }.encode(&mut inner);
        let flags = match kind {
            Kind::Streamheader => FLAG_HEADER,
            Kind::Keyframe => 0,
            Kind::Delta => FLAG_DELTA_UNIT,
        };
        gdp::buffer(&mut out, &inner, None, flags);
        out
    }

    #[test]
    fn a_gdp_stream_is_checked_down_to_its_records() {
        let caps = gdp::preamble("s", "application/x-flumen-test");
        let header = packet(Kind::Streamheader, 0);
        let (key, four, five) = (packet(Kind::Keyframe, 3), packet(Kind::Delta, 4), packet(Kind::Delta, 5));
        for (parts, want) in [
            (vec![&caps, &header, &key, &four, &five], None),
            (vec![&header, &key], Some(FaultKind::Start)),
            (vec![&caps, &header, &four], Some(FaultKind::Start)),
            (vec![&caps, &header, &key, &five], Some(FaultKind::Gap)),
            (vec![&caps, &header, &key, &four, &four], Some(FaultKind::Repeat)),
        ] {
            let bytes: Vec<u8> = parts.into_iter().flatten().copied().collect();
            let got = kind_of(verdict(Format::Gdp, Start::Exact, &bytes));
            assert_eq!(got, want);
        }
    }
}
