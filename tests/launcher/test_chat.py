#!/usr/bin/env python3
"""Chat: --chat and messages, by the template of the checkpoint."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


TEMPLATES = os.path.join(SOURCE, "tests", "text", "chat_templates")
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
          "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


class Chat(ShoalTest):
    def demo_with(self, template=None, jinja=None):
        """The demo with a chat template."""
        folder = self.path("model")
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        for name in os.listdir(DEMO):
            os.symlink(os.path.join(DEMO, name), os.path.join(folder, name))
        if template is not None:
            path = os.path.join(folder, "tokenizer_config.json")
            config = dict(read_json(path), chat_template=template)
            os.unlink(path)
            self.write("model/tokenizer_config.json", json.dumps(config))
        if jinja is not None:
            self.write("model/chat_template.jinja", jinja)
        return folder

    def ids_of(self, text):
        """As the model reads it: special tokens in it recognised, nothing added."""
        return json.loads(shoal("tokenize", DEMO, stdin=json.dumps(text) + "\n").out)

    def generate(self, model, *more, np=0):
        return shoal("generate", model, "--max-tokens", 4, *more, np=np)

    def check_prompt(self, model, text, wanted, *more):
        run = self.expect(self.generate(model, "--prompt", text, "--chat", "--json", *more), OK)
        self.assertEqual(run.json["prompt_ids"], self.ids_of(wanted))
        return run.json

    def test_no_template(self):
        run = self.expect(self.generate(DEMO, "--prompt", "x", "--chat"), BAD_DATA, DEMO, "no chat template", "DeepSeek-V3",
                          "Qwen3", "Mixtral", "Llama-3", "gpt-oss", "GLM-4.5", "Granite")
        self.assertEqual(len(run.errors()), 1, run)
        self.expect(self.generate(DEMO, "--prompt", "x"), OK)

    def test_unknown_template(self):
        model = self.demo_with("{% for message in messages %}{{ message['content'] }}{% endfor %}")
        self.expect(self.generate(model, "--prompt", "x", "--chat"), BAD_DATA, model, "not known", "ChatML")

    def test_chatml(self):
        wanted = "<|im_start|>user\nIt is <b>\n<|im_end|>\n<|im_start|>assistant\n"
        for model in (self.demo_with(CHATML), self.demo_with([{"name": "tool_use", "template": "?"},
                                                              {"name": "default", "template": CHATML}]),
                      self.demo_with("not this one", CHATML)):
            self.check_prompt(model, "It is <b>\n", wanted)
        answer = self.check_prompt(model, "It is <b>\n", wanted)
        prompt = self.write("prompt", "It is <b>\n")
        from_file = self.expect(self.generate(model, "--prompt-file", prompt, "--chat", "--json"), OK).json
        self.assertEqual(from_file["ids"], answer["ids"])
        same = self.expect(self.generate(model, "--prompt-ids", ids_text(answer["prompt_ids"]), "--json"), OK).json
        self.assertEqual(same["ids"], answer["ids"])

    def test_one_bos_and_not_two(self):
        with open(os.path.join(TEMPLATES, "llama3.jinja"), encoding="utf-8") as file:
            model = self.demo_with(file.read())
        wanted = ("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|>"
                  "<|start_header_id|>assistant<|end_header_id|>\n\n")
        ids = self.check_prompt(model, " x ", wanted)["prompt_ids"]
        self.assertEqual((ids[0], ids.count(0)), (0, 1))

    def test_the_day(self):
        with open(os.path.join(TEMPLATES, "gpt_oss.jinja"), encoding="utf-8") as file:
            model = self.demo_with(jinja=file.read())
        before = time.strftime("%Y-%m-%d")
        run = self.expect(self.generate(model, "--prompt", "x", "--chat", "--json", "--context", 1024), OK)
        text = json.loads(shoal("tokenize", DEMO, "--decode", stdin=json.dumps(run.json["prompt_ids"]) + "\n").out)
        self.assertTrue(text.startswith("<|start|>system<|message|>You are ChatGPT"), text)
        self.assertTrue(any(f"\nCurrent date: {day}\n" in text for day in (before, time.strftime("%Y-%m-%d"))), text)
        self.assertTrue(text.endswith("<|start|>user<|message|>x<|end|><|start|>assistant"), text)

    def test_template_of_a_gguf(self):
        model = self.path("model.gguf")
        convert = os.path.join(SOURCE, "tests", "checkpoint", "gguf", "convert.py")
        for template, code, said in (("{{ messages }}", BAD_DATA, "not known"), (CHATML, USAGE, "vocabulary of 256")):
            folder = self.demo_with(template)
            subprocess.run([sys.executable, convert, golden("qwen3_moe"), model, f"tokenizer={folder},qwen2"], check=True)
            # the golden has fewer rows than this tokenizer has ids: behind the template that is the next thing to be found
            run = self.generate(model, "--prompt", "x", "--chat")
            self.expect(run, code, said)
            self.assertEqual(f"{model}: " in run.err, code == BAD_DATA, run)

    def test_messages_of_a_batch(self):
        need_mpirun()
        model = self.demo_with(CHATML)
        talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "It is"},
                {"role": "assistant", "content": "so"}, {"role": "user", "content": "What?"}]
        written = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in talk) + "<|im_start|>assistant\n"
        write_lines(self.path("in"), [
            {"id": "messages", "messages": talk, "max_tokens": 8},
            {"id": "the same", "prompt_ids": self.ids_of(written), "max_tokens": 8},
            {"id": "one", "messages": talk[1:2], "max_tokens": 8, "stop": "e"},
            {"id": "none", "messages": []},
            {"id": "role", "messages": [{"role": "tool", "content": "x"}]},
            {"id": "both", "messages": talk, "prompt": "x"},
            {"id": "content", "messages": [{"role": "user", "content": None}]},
            {"id": "key", "messages": [{"role": "user", "content": "x", "tool_calls": []}]},
        ])
        outputs = []
        for np in (0, 2):
            run = shoal("batch", model, "--input", self.path("in"), "--output", self.path(f"out{np}"), np=np)
            self.expect(run, BAD_DATA, "3 answered, 5 bad")
            found = {answer["id"]: answer for answer in read_lines(self.path(f"out{np}"))}
            for answer in found.values():
                answer.pop("timing", None)
            outputs.append(found)
        self.assertEqual(outputs[0], outputs[1])
        found = outputs[0]
        self.assertEqual(found["messages"]["ids"], found["the same"]["ids"])
        self.assertEqual(found["messages"]["text"], found["the same"]["text"])
        for bad, said in (("none", "at least one"), ("role", "'tool'"), ("both", "exactly one"), ("content", "messages[0]"),
                          ("key", "tool_calls")):
            self.assertIn(said, found[bad]["error"])

    def test_messages_without_a_template(self):
        write_lines(self.path("in"), [{"id": 1, "messages": [{"role": "user", "content": "x"}]},
                                      {"id": 2, "prompt": "x", "max_tokens": 2}])
        run = shoal("batch", DEMO, "--input", self.path("in"), "--output", self.path("out"))
        self.expect(run, BAD_DATA, "1 answered, 1 bad")
        found = {answer["id"]: answer for answer in read_lines(self.path("out"))}
        self.assertIn("no chat template", found[1]["error"])
        self.assertEqual(len(found[2]["ids"]), 2)


main()
