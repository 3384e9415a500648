//! Every container that flumen knows starts cleanly for a listener who joins at any moment: fifty joins at random times each,
//! every capture decoded by ffmpeg without an error.
//!
//! A capture ends in a pause of the stream, so that what ffmpeg sees is whole chunks and any complaint is ours.

mod support;

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use support::Server;

const JOINS: u64 = 50;
/// Joins are spread over this time.
const SPREAD: Duration = Duration::from_secs(8);
const CAPTURE: Duration = Duration::from_millis(2500);

/// Small and quick, with a keyframe each second.
const PICTURE: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=15/1 ! videoconvert";
const SOUND: &str = "audiotestsrc is-live=true samplesperbuffer=960 wave=ticks ! audio/x-raw,rate=48000,channels=2 ! audioconvert";
const H264: &str = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=200 ! h264parse config-interval=-1";
const VP8: &str = "vp8enc deadline=1 cpu-used=8 keyframe-max-dist=15 target-bitrate=200000";

/// Captures a stream up to a pause between two chunks.
fn capture(server: &Server, path: &str) -> Vec<u8> {
    let mut stream = server.listen(path);
    assert_eq!(stream.head.status, 200);
    let end = Instant::now() + CAPTURE;
    let (mut body, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    stream.socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
    loop {
        match stream.socket.read(&mut buffer) {
            Ok(0) => panic!("closed after {} bytes; log:\n{}", body.len(), server.log()),
            Ok(count) => body.extend(&buffer[..count]),
            Err(_) if Instant::now() > end && !body.is_empty() => return body,
            Err(_) => {}
        }
    }
}

/// Decodes a capture; the number of frames of each stream, or what ffmpeg complains of.
fn decode(file: &std::path::Path, demuxer: Option<&str>) -> Result<Vec<usize>, String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "warning", "-xerror"]);
    if let Some(demuxer) = demuxer {
        command.args(["-f", demuxer]);
    }
    let output = command
        .arg("-i")
        .arg(file)
        .args(["-map", "0:v?", "-map", "0:a?", "-fps_mode", "passthrough", "-f", "framecrc", "-"])
        .output()
        .expect("ffmpeg");
    let complaints: Vec<String> =
        String::from_utf8_lossy(&output.stderr).lines().filter(|line| !harmless(line)).map(str::to_owned).collect();
    if !output.status.success() || !complaints.is_empty() {
        return Err(format!("{}\n{}", output.status, complaints.join("\n")));
    }
    let mut frames: Vec<usize> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')) {
        let stream: usize = line.split(',').next().and_then(|index| index.trim().parse().ok()).expect("a stream number");
        frames.resize(frames.len().max(stream + 1), 0);
        frames[stream] += 1;
    }
    Ok(frames)
}

/// A transport stream cut anywhere ends in the middle of pictures and sounds: leaves out what is not whole.
fn whole_packets_of_programme(stream: &[u8]) -> Vec<u8> {
    let pid = |packet: &[u8]| u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2]);
    let packets: Vec<&[u8]> = stream.chunks_exact(188).collect();
    let last_begin = |wanted| packets.iter().rposition(|packet| pid(packet) == wanted && packet[1] & 0x40 != 0);
    let whole = |(i, packet): &(usize, &&[u8])| pid(packet) < 0x20 || last_begin(pid(packet)).is_some_and(|last| *i < last);
    packets.iter().enumerate().filter(whole).flat_map(|(_, packet)| packet.iter().copied()).collect()
}

/// Every part of a multipart stream is as long as it says, and a whole JPEG. (ffmpeg says of some that they lack an end, which
/// they do not: so it is looked at here.)
fn assert_whole_pictures(mut stream: &[u8]) {
    let find = |stream: &[u8], what: &[u8]| stream.windows(what.len()).position(|window| window == what);
    while let Some(head) = find(stream, b"Content-Length: ") {
        let length =
            String::from_utf8_lossy(&stream[head + 16..head + 26]).split('\r').next().and_then(|digits| digits.parse::<usize>().ok());
        let begin = find(stream, b"\r\n\r\n").expect("the end of a part's head") + 4;
        let picture = &stream[begin..begin + length.expect("a length")];
        assert!(picture.starts_with(&[0xFF, 0xD8]) && picture.ends_with(&[0xFF, 0xD9]), "a torn picture");
        stream = &stream[begin + picture.len()..];
    }
}

/// What ffmpeg says of any excerpt of an endless stream, however cleanly it starts.
fn harmless(line: &str) -> bool {
    const SAYINGS: &[&str] = &[
        "Estimating duration from bitrate", // no length is known
        "Could not find codec parameters",  // followed by an error if it matters
        "Consider increasing the value",
        "Application provided duration",
        "max_analyze_duration",
        "start time for stream", // an excerpt does not start at zero
        "Timestamps are unset in a packet",
        "Encoder did not produce proper pts",
        "Queue input is backward in time", // the encoder side of the check, at a stream's first timestamps
        "Non-monotonous DTS",
        "deprecated pixel format",
        "Thread message queue blocking",
        "Guessed Channel Layout",
        "not enough frames to estimate rate",
        "Last message repeated",
        "DTS discontinuity",
        "EOI missing, emulating",        // see `assert_whole_pictures`
        "keyframe not correctly marked", // also said of a whole file that oggmux wrote
    ];
    line.trim().is_empty() || SAYINGS.iter().any(|saying| line.contains(saying))
}

/// Fifty joins; each capture must have so many streams with at least so many frames in each.
fn joins_decode(name: &str, pipeline: &str, content_type: &str, streams: usize, demuxer: Option<&str>) {
    let mount = format!("[[mount]]\npath = \"/{name}\"\nburst = \"500ms\"\npipeline = '''{pipeline}'''\n");
    let server = Server::start(&mount);
    std::thread::sleep(Duration::from_secs(2));
    let path = format!("/{name}");
    assert_eq!(server.request("HEAD", &path).expect("a head").header("content-type"), Some(content_type));
    let seed = u64::from(std::process::id());
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..JOINS)
            .map(|i| {
                let (server, path) = (&server, &path);
                scope.spawn(move || {
                    // A join in each fiftieth of the time, somewhere within it.
                    let within = (seed ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).rotate_left(17) % 1000;
                    std::thread::sleep(SPREAD.mul_f64((i as f64 + within as f64 / 1000.0) / JOINS as f64));
                    let mut body = capture(server, path);
                    match content_type {
                        "video/mp2t" => body = whole_packets_of_programme(&body),
                        // What a WAV head promises never comes; ffmpeg wants its last packet full.
                        "audio/wav" => body.truncate(44 + (body.len() - 44) / 4096 * 4096),
                        // A part's head and its picture are two buffers: leave out a head whose picture has not come.
                        _ if content_type.starts_with("multipart/") => {
                            let last = body.windows(20).rposition(|window| window.starts_with(b"--ThisRandomString"));
                            body.truncate(last.expect("a boundary"));
                            assert_whole_pictures(&body);
                        }
                        _ => {}
                    }
                    let file = server.dir.join(format!("join-{i}"));
                    std::fs::write(&file, &body).expect("a capture");
                    (i, file, body.len())
                })
            })
            .collect();
        let captures: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a capture")).collect();
        captures
            .into_iter()
            .filter_map(|(i, file, size)| match decode(&file, demuxer) {
                Ok(frames) if frames.len() >= streams && frames.iter().all(|&frames| frames >= 8) => None,
                Ok(frames) => Some(format!("join {i}, {size} bytes: only {frames:?} frames of {streams} streams")),
                Err(complaint) => Some(format!("join {i}, {size} bytes: {complaint}")),
            })
            .collect()
    });
    assert!(failures.is_empty(), "{name}: {} of {JOINS} joins failed; the first: {}", failures.len(), failures[0]);
}

macro_rules! formats {
    ($($test:ident: $name:literal, $type:literal, $streams:literal, $demuxer:expr, $($pipeline:expr),+;)+) => {$(
        #[test]
        fn $test() {
            joins_decode($name, &[$($pipeline),+].concat(), $type, $streams, $demuxer);
        }
    )+};
}

formats! {
    mp3_starts_cleanly: "a.mp3", "audio/mpeg", 1, None, SOUND, " ! lamemp3enc target=bitrate bitrate=128 cbr=true ! mpegaudioparse";
    adts_starts_cleanly: "a.aac", "audio/aac", 1, None, SOUND, " ! voaacenc ! aacparse ! audio/mpeg,stream-format=adts";
    ogg_vorbis_starts_cleanly: "v.ogg", "application/ogg", 1, None, SOUND, " ! vorbisenc ! oggmux max-delay=100000000 max-page-delay=100000000";
    ogg_opus_starts_cleanly: "o.ogg", "application/ogg", 1, None, SOUND, " ! opusenc ! oggmux max-delay=100000000 max-page-delay=100000000";
    ogg_flac_starts_cleanly: "f.ogg", "application/ogg", 1, None, SOUND, " ! flacenc ! oggmux";
    ogg_theora_starts_cleanly: "t.ogg", "application/ogg", 2, None,
        "oggmux name=m  ", PICTURE, " ! theoraenc keyframe-force=15 keyframe-freq=15 speed-level=2 ! queue ! m.  ", SOUND, " ! vorbisenc ! queue ! m.";
    webm_vp8_opus_starts_cleanly: "8.webm", "video/webm", 2, None,
        "webmmux streamable=true name=m  ", PICTURE, " ! ", VP8, " ! queue ! m.  ", SOUND, " ! opusenc ! queue ! m.";
    webm_vp9_vorbis_starts_cleanly: "9.webm", "video/webm", 2, None,
        "webmmux streamable=true name=m  ", PICTURE, " ! vp9enc deadline=1 cpu-used=8 keyframe-max-dist=15 target-bitrate=200000 ! queue ! m.  ", SOUND, " ! vorbisenc ! queue ! m.";
    webm_audio_starts_cleanly: "a.webm", "audio/webm", 1, None, SOUND, " ! opusenc ! webmmux streamable=true";
    matroska_starts_cleanly: "h.mkv", "video/x-matroska", 2, None,
        "matroskamux streamable=true name=m  ", PICTURE, " ! ", H264, " ! queue ! m.  ", SOUND, " ! voaacenc ! aacparse ! queue ! m.";
    flv_starts_cleanly: "h.flv", "video/x-flv", 2, None,
        "flvmux streamable=true name=m  ", PICTURE, " ! ", H264, " ! queue ! m.  ", SOUND, " ! audioresample ! audio/x-raw,rate=44100 ! voaacenc ! aacparse ! queue ! m.";
    // Not both in one: GStreamer 1.22 gives encoded video a time base of a thousand hours, and asfmux waits for sound to catch up.
    asf_video_starts_cleanly: "v.asf", "video/x-ms-asf", 1, None, PICTURE, " ! avenc_wmv2 gop-size=15 ! asfmux streamable=true";
    asf_audio_starts_cleanly: "a.asf", "video/x-ms-asf", 1, None, SOUND, " ! avenc_wmav2 ! asfmux streamable=true";
    mpegts_starts_cleanly: "h.ts", "video/mp2t", 2, None,
        "mpegtsmux name=m  ", PICTURE, " ! ", H264, " ! queue ! m.  ", SOUND, " ! voaacenc ! aacparse ! queue ! m.";
    mpegts_in_datagrams_starts_cleanly: "7.ts", "video/mp2t", 2, None,
        "mpegtsmux alignment=7 name=m  ", PICTURE, " ! ", H264, " ! queue ! m.  ", SOUND, " ! voaacenc ! aacparse ! queue ! m.";
    wav_starts_cleanly: "a.wav", "audio/wav", 1, None, SOUND, " ! wavenc";
    flac_starts_cleanly: "a.flac", "audio/flac", 1, Some("flac"), SOUND, " ! flacenc";
    multipart_jpeg_starts_cleanly: "m.mjpeg", "multipart/x-mixed-replace;boundary=ThisRandomString", 1, Some("mpjpeg"), PICTURE, " ! jpegenc ! multipartmux";
}
