"""Tries the server with OpenAI's client and with a browser: serve.py ADDRESS PICTURE CHROMIUM [SCREENSHOT]."""

import base64
import sys
import time

import openai
from playwright.sync_api import sync_playwright

address, picture, chromium, *screenshot = sys.argv[1:]
with open(picture, "rb") as file:
    data = base64.b64encode(file.read()).decode()
question = "Please write a paragraph of formal analysis for this painting."

client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
model = client.models.list().data[0].id
assert client.models.retrieve(model).id == model
messages = [{"role": "user", "content": [
    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}, {"type": "text", "text": question}]}]
whole = client.chat.completions.create(model=model, messages=messages, temperature=0)
text = whole.choices[0].message.content
assert whole.choices[0].finish_reason == "stop" and text and whole.usage.completion_tokens > 0
stream = client.chat.completions.create(model=model, messages=messages, temperature=0, stream=True,
                                        stream_options={"include_usage": True})
chunks = list(stream)
assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).strip() == text
assert chunks[-1].usage == whole.usage
other = client.chat.completions.create(model="gpt-4o", messages=messages, temperature=0, max_tokens=4096)
assert other.choices[0].message.content == text and other.model == model
for kind, changes in [(openai.BadRequestError, {"n": 2}), (openai.BadRequestError, {"tools": [{"type": "function", "function": {"name": "f"}}]})]:
    try:
        client.chat.completions.create(**{"model": model, "messages": messages, **changes})
        sys.exit(f"{changes} was answered")
    except kind:
        pass
try:
    client.models.retrieve("another")
    sys.exit("there is another model")
except openai.NotFoundError as error:
    assert error.code == "model_not_found" and error.param == "model"
try:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "word " * 100_000}])
    sys.exit("a text beyond the context was answered")
except openai.BadRequestError as error:
    assert error.code == "context_length_exceeded", error
print(f"openai {openai.__version__}: models, an answer, the same streamed, refusals as its own errors")

DROP = """([data, name]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, { type: name.endsWith('.svg') ? 'image/svg+xml' : 'image/jpeg' }));
    document.getElementById('frame').dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
SELECT = """words => {
    const answer = document.getElementById('answer');
    answer.normalize();
    const at = answer.firstChild.data.indexOf(words), range = document.createRange();
    range.setStart(answer.firstChild, at); range.setEnd(answer.firstChild, at + words.length);
    getSelection().removeAllRanges(); getSelection().addRange(range);
}"""
# Presses Stop at the first words of an answer, before any more can come.
STOP = """() => new Promise(resolve => {
    const [answer, ask] = ['answer', 'ask'].map(id => document.getElementById(id));
    const seen = new MutationObserver(() => {
        if (!answer.textContent) return;
        seen.disconnect();
        const button = ask.textContent, words = answer.textContent;
        ask.click();
        resolve([button, words]);
    });
    seen.observe(answer, { childList: true });
    ask.click();
})"""
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><circle cx="20" cy="20" r="9"/></svg>'
SAYS = "start => document.getElementById('said').textContent.includes(start)"


def until(page, condition, argument=None):
    """Waits for a condition. Playwright's own way is a string made into a function, which the page's policy forbids."""
    for _ in range(1200):
        if page.evaluate(condition, argument):
            return
        time.sleep(0.05)
    sys.exit(f"never: {condition} {argument}; the page says {page.inner_text('#said')!r}")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
    page = browser.new_page(viewport={"width": 1080, "height": 560})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: line.type == "error" and errors.append(line.text))
    # Without someone who listens from the start the first chooser would be a real window.
    page.on("filechooser", lambda chooser: None)
    page.goto(address)
    until(page, "() => document.getElementById('model').textContent")
    assert page.inner_text("#model") == model
    assert page.locator("#ask").is_disabled()
    # A file that is no picture changes nothing, before there is a painting and after.
    page.evaluate(DROP, [base64.b64encode(b"# Read me").decode(), "README.md"])
    until(page, SAYS, "README.md is not a picture")
    assert page.locator("#ask").is_disabled() and page.locator("#frame").bounding_box()["height"] > 200
    # A painting is read at once, and the focus stays where it was.
    page.evaluate(DROP, [data, "painting.jpg"])
    until(page, SAYS, "tokens in")
    answer = page.inner_text("#answer")
    assert len(answer) > 40 and page.inner_text("#aloud") == answer
    painting = page.get_attribute("#frame img", "src")
    assert page.get_attribute("#frame img", "alt") == "Painting: painting.jpg"
    page.evaluate(DROP, [base64.b64encode(b"# Read me").decode(), "README.md"])
    until(page, SAYS, "README.md is not a picture")
    assert page.get_attribute("#frame img", "src") == painting and page.inner_text("#answer") == answer
    # By mouse: words are selected. By keyboard: they are written.
    words = answer.split(" at the ")[0].split(" rests on ")[-1].split(" meets ")[-1]
    page.evaluate(SELECT, words)
    assert page.input_value("#phrase") == words
    page.click("#look")
    until(page, SAYS, "bright")
    assert page.get_attribute("#frame img", "src").startswith("blob:")
    if screenshot:
        page.wait_for_timeout(300)
        page.screenshot(path=screenshot[0])
    page.click("#back")
    assert page.get_attribute("#frame img", "src") == painting
    word = words.split()[0]
    page.fill("#phrase", word)
    page.press("#phrase", "Enter")
    until(page, SAYS, f"while “{word}”")
    # By keyboard alone: the drop area is a button that opens the chooser, and Ask keeps the focus while it says Stop.
    for keyname in ("Enter", "Space"):
        page.focus("#frame")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press(keyname)
        # Seen by the page itself: an answer may be over before anyone outside looks.
        page.evaluate("""() => {
            window.stops = 0;
            new MutationObserver(() => { stops += ask.textContent === 'Stop'; }).observe(ask, { childList: true });
        }""")
        chooser.value.set_files(picture)
        until(page, "() => stops > 0")
        until(page, SAYS, "tokens in")
    page.locator("summary").click()
    page.fill("#tokens", "5")
    page.focus("#ask")
    page.keyboard.press("Enter")
    until(page, SAYS, "cut there")
    assert page.evaluate("document.activeElement.id") == "ask"
    page.fill("#tokens", "")
    button, words = page.evaluate(STOP)
    until(page, "() => document.getElementById('ask').textContent === 'Ask'")
    assert button == "Stop" and page.inner_text("#said") == "stopped" and page.text_content("#answer") == words
    # What the browser shows and the server cannot read is named.
    page.evaluate(DROP, [base64.b64encode(SVG).decode(), "drawing.svg"])
    until(page, "() => document.getElementById('said').classList.contains('bad')")
    for width in (1080, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"the page is wider than {width}"
    errors = [error for error in errors if "400 (Bad Request)" not in error]
    assert not errors, errors
    print(f"Chromium {browser.version}: dropped, streamed, attention shown, stopped, by keyboard too; what is no picture is refused; no script error")
    browser.close()
