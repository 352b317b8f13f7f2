//! Whom an example answers.

use super::{File, file, obeyed};

#[test]
fn examples_listen_on_loopback_alone() {
    let broken = |path: &str, text: &str| !listening(&[file(path, text)]).is_empty();
    for open in ["\"0.0.0.0:8080\"", "\"[::]:80\"", "Ipv4Addr::UNSPECIFIED"] {
        let text = format!("let listener = TcpListener::bind({open}).await?;");
        assert!(broken("examples/shop/main.rs", &text), "{open}");
        assert!(!broken("src/shop.rs", &text), "{open}");
    }
    let own = "let listener = TcpListener::bind((\"127.0.0.1\", 0)).await?;";
    assert!(!broken("examples/shop/main.rs", own));
    obeyed(listening);
}

/// An example is copied, and what it opens to every network with it.
fn listening(files: &[File]) -> Vec<String> {
    let everywhere = ["0.0.0.0", "[::]", "UNSPECIFIED"];
    let examples = files
        .iter()
        .filter(|file| file.path.starts_with("examples/"));
    let open = examples.filter(|file| everywhere.iter().any(|one| file.text.contains(one)));
    open.map(|file| format!("{} listens on every network", file.path))
        .collect()
}
