//! The program `serve`: how it is started and stopped, what its flags do, and what hostile requests cost it.

mod flags;
mod hostile;
mod stopping;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use crate::program;

/// `serve` on a free port; killed when it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(flags: &[&str]) -> Command {
    let mut command = program("serve");
    command.args(["--port", "0"]).args(flags);
    command.env_remove("GALLERY_GPT_API_KEY");
    command
}

fn start(mut command: Command) -> Server {
    start_again(&mut command)
}

fn start_again(command: &mut Command) -> Server {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let address = address_in(&line);
    Server { child, address }
}

fn address_in(line: &str) -> SocketAddr {
    let address = line
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    address
        .unwrap_or_else(|| panic!("no address in {line:?}"))
        .parse()
        .unwrap()
}

fn is_healthy(server: &Server) -> bool {
    let mut socket = TcpStream::connect(server.address).unwrap();
    let _ = socket.write_all(b"GET /health HTTP/1.0\r\n\r\n");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).is_ok() && answer.ends_with("ok")
}

fn said(server: &mut Server) -> String {
    let mut text = String::new();
    server
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}
