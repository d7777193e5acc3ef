'use strict';
const by = id => document.getElementById(id);
const [frame, file, model, locked, key, form, question, ask, temperature, tokens, answer, aloud, looking, phrase, look, back, said] =
  ['frame', 'file', 'model', 'locked', 'key', 'form', 'question', 'ask', 'temperature', 'tokens', 'answer', 'aloud', 'looking', 'phrase',
    'look', 'back', 'said'].map(by);
// The painting as a data URI, the name of its file, the question with its answer, and the request under way.
let picture = null, title = '', asked = null, running = null;

const say = (text, bad = false) => { said.textContent = text; said.classList.toggle('bad', bad); };
const refresh = () => {
  ask.textContent = running ? 'Stop' : 'Ask';
  ask.disabled = !picture && !running;
  look.disabled = !asked || !phrase.value.trim() || !!running;
};
const show = (address, alt) => {
  const image = new Image();
  image.alt = alt;
  image.src = address;
  frame.replaceChildren(image);
  frame.classList.add('full');
};
// In place of a painting that the browser cannot show.
const name = text => {
  const span = document.createElement('span');
  span.textContent = text;
  frame.replaceChildren(span);
  frame.classList.remove('full');
};
const showPainting = () => {
  if (title.shown) show(picture, `Painting: ${title.name}`); else name(`${title.name} (this browser does not show TIFF)`);
  back.hidden = true;
};

const read = (chosen, how) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader[how](chosen);
});
const isTiff = async chosen => {
  const head = new Uint8Array(await read(chosen.slice(0, 4), 'readAsArrayBuffer'));
  return ['73,73,42,0', '77,77,0,42'].includes(head.join());
};
// Takes a file if it is a picture; otherwise everything stays as it is.
async function take(chosen) {
  if (!chosen) return;
  let shown = true;
  try {
    const address = URL.createObjectURL(chosen);
    const image = new Image();
    image.src = address;
    try { await image.decode(); } catch {
      shown = false;
      if (!await isTiff(chosen)) return say(`${chosen.name} is not a picture`, true);
    } finally { URL.revokeObjectURL(address); }
    const taken = await read(chosen, 'readAsDataURL');
    running?.abort();
    await running?.ended;
    [picture, title] = [taken, { name: chosen.name, shown }];
  } catch { return say(`${chosen.name} cannot be read`, true); }
  asked = null;
  showPainting();
  write();
}

const headers = () => ({ 'content-type': 'application/json', ...(key.value && { authorization: `Bearer ${key.value}` }) });
// The server's error, or what else went wrong.
const trouble = async response => {
  if (response.status === 401) { locked.hidden = false; key.focus(); }
  return (await response.json().catch(() => null))?.error?.message ?? `the server answers ${response.status}`;
};
const user = text => ({ role: 'user', content: [{ type: 'image_url', image_url: { url: picture } }, { type: 'text', text }] });
const send = (path, body, signal) => fetch(path, { method: 'POST', headers: headers(), body: JSON.stringify(body), signal });
// Runs one request at a time.
async function alone(work) {
  const run = running = new AbortController();
  let end;
  run.ended = new Promise(resolve => { end = resolve; });
  refresh();
  try { await work(run.signal); } catch (error) {
    say(error.name === 'AbortError' ? 'stopped' : error.message, error.name !== 'AbortError');
  }
  running = null;
  end();
  refresh();
}

const write = () => alone(async signal => {
  asked = null;
  answer.textContent = aloud.textContent = phrase.value = '';
  showPainting();
  refresh();
  const began = performance.now(), text = question.value;
  say('reading the painting');
  const response = await send('/v1/chat/completions', {
    messages: [user(text)], stream: true, stream_options: { include_usage: true },
    ...(temperature.value && { temperature: Number(temperature.value) }), ...(tokens.value && { max_tokens: Number(tokens.value) }),
  }, signal);
  if (!response.ok) throw new Error(await trouble(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '', written = 0, ended = false, cut = false, notes = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data:')) continue;
      const data = line.slice(5).trim();
      if (data === '[DONE]') { ended = true; continue; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      notes = chunk.notes ?? notes;
      const piece = chunk.choices[0]?.delta?.content;
      if (piece) {
        if (!answer.textContent) say('writing');
        answer.append(answer.textContent ? piece : piece.trimStart());
      }
      cut ||= chunk.choices[0]?.finish_reason === 'length';
      written = chunk.usage?.completion_tokens ?? written;
    }
  }
  if (!ended) throw new Error('the connection broke before the answer was complete');
  answer.normalize();
  asked = { question: text, answer: answer.textContent };
  // Once, and complete: a screen reader would stutter at every piece.
  aloud.textContent = answer.textContent;
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  say([`${written} tokens in ${seconds} s${cut ? ', cut there' : ''}; select words of the answer to see their attention map`, ...notes].join('. '));
});

const attend = words => alone(async signal => {
  say(`looking for “${words}”`);
  const body = { messages: [user(asked.question), { role: 'assistant', content: asked.answer }], phrase: words };
  const response = await send('/attention', body, signal);
  if (!response.ok) throw new Error(await trouble(response));
  show(URL.createObjectURL(await response.blob()), `Painting: ${title.name}, bright where the attention of “${words}” is above the average`);
  back.hidden = false;
  say(`bright: more attention than usual while “${words}” was generated. A trace of the model, not an explanation.`);
});

// The model's name and its default settings.
async function introduce() {
  const response = await fetch('/v1/models', { headers: headers() }).catch(() => null);
  if (!response?.ok) return say(response ? await trouble(response) : 'the server does not answer', true);
  const { id, defaults } = (await response.json()).data[0];
  model.textContent = id;
  temperature.placeholder = defaults.temperature;
  tokens.placeholder = tokens.max = defaults.max_tokens;
  say('');
}

file.onchange = () => { take(file.files[0]); file.value = ''; };
frame.onclick = () => file.click();
frame.ondragover = event => { event.preventDefault(); frame.classList.add('over'); };
frame.ondragleave = () => frame.classList.remove('over');
frame.ondrop = event => { event.preventDefault(); frame.classList.remove('over'); take(event.dataTransfer.files[0]); };
form.onsubmit = event => { event.preventDefault(); if (running) running.abort(); else if (picture) write(); };
question.onkeydown = event => {
  if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); if (!running) form.requestSubmit(); }
};
looking.onsubmit = event => { event.preventDefault(); if (!look.disabled) attend(phrase.value.trim()); };
phrase.oninput = refresh;
locked.onsubmit = event => { event.preventDefault(); introduce(); };
key.onchange = introduce;
back.onclick = () => { showPainting(); look.focus(); };
document.onselectionchange = () => {
  const selection = getSelection(), words = selection.toString().trim();
  if (words && answer.contains(selection.anchorNode) && answer.contains(selection.focusNode)) { phrase.value = words; refresh(); }
};
introduce();
