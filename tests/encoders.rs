//! Real encoders, unmodified: each publishes, a listener decodes what it hears without an error, the encoder is killed and comes
//! back, and the same listener hears it again.
//!
//! `FLUMEN_ENCODER_SECONDS` is how long each is listened to (`make encoders` asks for thirty).

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Server, until};

const SECOND: Duration = Duration::from_secs(1);
const SINE: &str = "ffmpeg -nostdin -v error -re -f lavfi -i sine=frequency=440:sample_rate=48000";
const PICTURE: &str = "-f lavfi -i testsrc=size=160x120:rate=15";

fn seconds() -> u64 {
    std::env::var("FLUMEN_ENCODER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// A shell command and all that it starts; ended when dropped.
struct Encoder(Child);

impl Encoder {
    fn start(command: &str, log: &Path) -> Self {
        let log = fs::File::create(log).expect("a log");
        let errors = log.try_clone().expect("a log");
        let child = Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0).spawn();
        Self(child.expect("a shell"))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

/// Listens with ffmpeg for so long; what it complains of.
fn decode(url: &str, seconds: u64) -> Result<(), String> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i", url, "-t", &seconds.to_string()])
        // Each frame with the time it has: ffmpeg's guess at a rate is not the stream's fault.
        .args(["-map", "0:v?", "-map", "0:a?", "-fps_mode", "passthrough", "-f", "framecrc", "-"])
        .output()
        .expect("ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && said.trim().is_empty() { Ok(()) } else { Err(said) }
}

/// Publishes by a shell command, in which PORT and DIR are filled in, and listens to what should be of this type.
fn encode(name: &str, command: &str, content_type: &str) {
    encode_with("", name, command, content_type);
}

/// The same for an encoder with a file of settings, `DIR/settings`.
fn encode_with(settings: &str, name: &str, command: &str, content_type: &str) {
    let mounts = "[push]\npassword = \"s3cret\"\n\n[[mount]]\npath = \"/live\"\nburst = \"1s\"\n";
    let server = Server::spawn("", mounts, &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()), "{}", server.log());
    let fill = |text: &str| text.replace("PORT", &server.port.to_string()).replace("DIR", &server.dir.to_string_lossy());
    let command = fill(command);
    fs::write(server.dir.join("settings"), fill(settings)).expect("settings");
    let log = server.dir.join("encoder.log");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let encoder = Encoder::start(&command, &log);
    let up = |wanted: f64| until(SECOND * 20, || server.metric("flumen_source_up", &[]) == wanted);
    assert!(up(1.0), "{name}: {}", said());
    let mut listener = server.listen("/live");
    assert_eq!(listener.head.header("content-type"), Some(content_type), "{name}");
    if let Err(complaint) = decode(&server.url("/live"), seconds()) {
        panic!("{name}: {complaint}\n{}", said());
    }
    assert!(!listener.read_for(SECOND).is_empty(), "{name}");
    drop(encoder);
    assert!(up(0.0), "{name}: it was killed");
    listener.read_for(SECOND / 2);
    let _encoder = Encoder::start(&command, &log);
    assert!(up(1.0), "{name}: it comes back; {}", said());
    let mut byte = [0];
    listener.socket.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
    assert_eq!(listener.socket.read(&mut byte).ok(), Some(1), "{name}: the same listener hears it again");
    std::thread::sleep(SECOND * 2); // a burst has nothing of the old stream any more
    if let Err(complaint) = decode(&server.url("/live"), 2) {
        panic!("{name}, come back: {complaint}");
    }
    assert_eq!(server.metric("flumen_listener_departures_total", &["too_slow"]), 0.0);
}

const ICECAST: &str = "icecast://source:s3cret@127.0.0.1:PORT/live";

#[test]
fn ffmpeg_publishes_sound() {
    for (name, output, content_type) in [
        ("ffmpeg mp3", "-c:a libmp3lame -b:a 128k -f mp3 -content_type audio/mpeg", "audio/mpeg"),
        ("ffmpeg legacy", "-c:a libmp3lame -f mp3 -content_type audio/mpeg -legacy_icecast 1", "audio/mpeg"),
        ("ffmpeg opus", "-c:a libopus -f ogg -content_type application/ogg", "application/ogg"),
        ("ffmpeg vorbis", "-c:a libvorbis -f ogg -content_type audio/ogg", "audio/ogg"),
        ("ffmpeg aac", "-c:a aac -f adts -content_type audio/aac", "audio/aac"),
        ("ffmpeg flac in ogg", "-c:a flac -f ogg -content_type application/ogg", "application/ogg"),
        ("ffmpeg flac", "-c:a flac -f flac -content_type audio/flac", "audio/flac"),
        ("ffmpeg wav", "-c:a pcm_s16le -f wav -content_type audio/wav", "audio/wav"),
        ("ffmpeg weba", "-c:a libopus -f webm -content_type audio/webm", "audio/webm"),
    ] {
        encode(name, &format!("{SINE} {output} {ICECAST}"), content_type);
    }
}

#[test]
fn ffmpeg_publishes_pictures() {
    for (name, output, content_type) in [
        ("ffmpeg theora", "-c:v libtheora -g 15 -c:a libvorbis -f ogg -content_type video/ogg", "video/ogg"),
        ("ffmpeg webm", "-c:v libvpx -deadline realtime -cpu-used 8 -g 15 -c:a libopus -f webm -content_type video/webm", "video/webm"),
        ("ffmpeg ts", "-c:v libx264 -preset ultrafast -tune zerolatency -g 15 -c:a aac -f mpegts -content_type video/mp2t", "video/mp2t"),
        (
            "ffmpeg flv",
            "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 15 -c:a aac -f flv -content_type video/x-flv",
            "video/x-flv",
        ),
    ] {
        encode(name, &format!("{SINE} {PICTURE} {output} {ICECAST}"), content_type);
    }
}

#[test]
fn curl_publishes_what_it_is_piped_and_files() {
    let target = "-sS -u source:s3cret http://127.0.0.1:PORT/live";
    encode("curl chunked", &format!("{SINE} -c:a libmp3lame -f mp3 - | curl -T - -H 'Content-Type: audio/mpeg' {target}"), "audio/mpeg");
    let file = "ffmpeg -nostdin -v error -f lavfi -i sine=sample_rate=44100 -t 60 -c:a libmp3lame -b:a 128k -y DIR/file.mp3";
    encode(
        "curl with length",
        &format!("{file} && curl --limit-rate 17k -T DIR/file.mp3 -H 'Content-Type: audio/mpeg' {target}"),
        "audio/mpeg",
    );
}

#[test]
fn gstreamer_publishes() {
    let sound = "gst-launch-1.0 -q audiotestsrc is-live=true ! audioconvert !";
    for (name, encoder, sink, content_type) in [
        ("shout2send mp3", "lamemp3enc ! mpegaudioparse", "shout2send ip=127.0.0.1 port=PORT mount=/live password=s3cret", "audio/mpeg"),
        (
            "shout2send ogg",
            "vorbisenc ! oggmux max-delay=100000000",
            "shout2send ip=127.0.0.1 port=PORT mount=/live password=s3cret",
            "application/ogg",
        ),
        (
            "souphttpclientsink",
            "lamemp3enc ! mpegaudioparse",
            "souphttpclientsink location=http://source:s3cret@127.0.0.1:PORT/live",
            "audio/mpeg",
        ),
    ] {
        encode(name, &format!("{sound} {encoder} ! {sink}"), content_type);
    }
}

#[test]
fn ezstream_publishes() {
    let file = "ffmpeg -nostdin -v error -f lavfi -i sine=sample_rate=44100 -t 120 -c:a libmp3lame -b:a 128k -y DIR/file.mp3";
    let settings = "<ezstream><servers><server><protocol>HTTP</protocol><hostname>127.0.0.1</hostname><port>PORT</port><user>source</user>\
        <password>s3cret</password></server></servers><streams><stream><mountpoint>/live</mountpoint><format>MP3</format></stream></streams>\
        <intakes><intake><type>file</type><filename>DIR/file.mp3</filename></intake></intakes></ezstream>";
    encode_with(settings, "ezstream", &format!("{file} && ezstream -c DIR/settings"), "audio/mpeg");
}

#[test]
fn ices2_publishes() {
    let settings = "<ices><background>0</background><logpath>DIR</logpath><logfile>ices.log</logfile><loglevel>4</loglevel><consolelog>1</consolelog>\
        <stream><metadata><name>x</name></metadata><input><module>stdinpcm</module><param name=\"rate\">44100</param>\
        <param name=\"channels\">2</param></input><instance><hostname>127.0.0.1</hostname><port>PORT</port><password>s3cret</password>\
        <mount>/live</mount><encode><quality>1</quality><samplerate>44100</samplerate><channels>2</channels></encode></instance></stream></ices>";
    encode_with(settings, "ices2", &format!("{SINE} -f s16le -ac 2 -ar 44100 - | ices2 DIR/settings"), "application/ogg");
}

#[test]
fn oggfwd_publishes() {
    encode("oggfwd", &format!("{SINE} -c:a libvorbis -f ogg - | oggfwd 127.0.0.1 PORT s3cret /live"), "application/ogg");
}

#[test]
fn liquidsoap_publishes() {
    let mp3 = "settings.init.allow_root.set(true)\noutput.icecast(%mp3, host=\"127.0.0.1\", port=PORT, password=\"s3cret\", mount=\"live\", sine())";
    encode_with(mp3, "liquidsoap", "liquidsoap DIR/settings", "audio/mpeg");
    let chunked = mp3.replace("%mp3,", "%vorbis, protocol=\"http\", chunked=true,");
    encode_with(&chunked, "liquidsoap chunked", "liquidsoap DIR/settings", "application/ogg");
}

#[test]
fn darkice_publishes_what_a_sound_server_plays() {
    // A sound server without a sound card, and darkice as soon as that is there. A machine can have eight of
    // them, and each makes itself a session of its own: so it is told to end when the shell has that began it, and the next has another name.
    let settings = "[general]\nduration = 0\nbufferSecs = 1\nrealtime = no\n[input]\ndevice = jack\nsampleRate = 44100\nbitsPerSample = 16\n\
        channel = 2\n[icecast2-0]\nbitrateMode = cbr\nFORMAT\nserver = 127.0.0.1\nport = PORT\npassword = s3cret\nmountPoint = live\nname = x\n";
    let command = "export JACK_DEFAULT_SERVER=flumen-$$ JACK_NO_AUDIO_RESERVATION=1 JACK_NO_START_SERVER=1\n\
        setpriv --pdeathsig TERM jackd -n flumen-$$ -r -d dummy -r 44100 -p 1024 &\nuntil darkice -c DIR/settings; do sleep 0.3; done";
    for (format, content_type) in
        [("format = mp3\nbitrate = 128\nquality = 0.8", "audio/mpeg"), ("format = vorbis\nbitrate = 96\nquality = 0.6", "application/ogg")]
    {
        encode_with(&settings.replace("FORMAT", format), "darkice", command, content_type);
    }
}
