"""Tries the server with OpenAI's client and with a browser: serve.py ADDRESS PICTURE CHROMIUM [SCREENSHOT]."""

import base64
import sys

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
for kind, changes in [(openai.NotFoundError, {"model": "another"}), (openai.BadRequestError, {"n": 2})]:
    try:
        client.chat.completions.create(**{"model": model, "messages": messages, **changes})
        sys.exit(f"{changes} was answered")
    except kind:
        pass
print(f"openai {openai.__version__}: models, an answer, the same streamed, refusals as its own errors")

DROP = """([data, name]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, { type: 'image/jpeg' }));
    document.getElementById('frame').dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
SELECT = """words => {
    const answer = document.getElementById('answer');
    answer.normalize();
    const at = answer.firstChild.data.indexOf(words), range = document.createRange();
    range.setStart(answer.firstChild, at); range.setEnd(answer.firstChild, at + words.length);
    getSelection().removeAllRanges(); getSelection().addRange(range);
}"""
SAYS = "start => document.getElementById('said').textContent.includes(start)"

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1080, "height": 560})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    assert page.locator("#ask").is_disabled()
    page.evaluate(DROP, [data, "painting.jpg"])
    page.wait_for_function("!document.getElementById('ask').disabled")
    page.click("#ask")
    page.wait_for_function(SAYS, arg="tokens in")
    answer = page.inner_text("#answer")
    assert len(answer) > 40
    painting = page.get_attribute("#frame img", "src")
    page.evaluate(SELECT, answer.split(" at the ")[0].split(" rests on ")[-1].split(" meets ")[-1])
    page.click("#look")
    page.wait_for_function(SAYS, arg="bright")
    assert page.get_attribute("#frame img", "src").startswith("blob:")
    if screenshot:
        page.wait_for_timeout(300)
        page.screenshot(path=screenshot[0])
    page.click("#back")
    assert page.get_attribute("#frame img", "src") == painting
    page.click("#ask")
    page.click("#stop")
    page.wait_for_function("document.getElementById('stop').hidden")
    page.evaluate(DROP, [base64.b64encode(b"no picture").decode(), "broken.jpg"])
    page.click("#ask")
    page.wait_for_function("document.getElementById('said').classList.contains('bad')")
    assert "decode" in page.inner_text("#said")
    for width in (1080, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"the page is wider than {width}"
    assert not errors, errors
    print(f"Chromium {browser.version}: dropped, streamed, looked at, stopped, a broken picture named; no script error")
    browser.close()
