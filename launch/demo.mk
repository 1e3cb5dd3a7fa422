# The demo as a graph of jobs; launch/demo calls it. Every target is a file that a finished job leaves behind, so an
# interrupted demo goes on where it stopped, and -j runs what is independent side by side.
#   D run directory   CD the codedance binary   SEEDS list
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:

job := launch/demo_job
scales := 1 2 4 8 16 32
modes := free direct tool
arms := fixed published none
first := $(firstword $(SEEDS))

# What is measured: every arm of every seed at the end of its training; the first seed also the hard way round.
runs := $(foreach s,$(SEEDS),$(foreach r,sft control $(arms),$(D)/seed$(s)/$(r)/.done))
forced := $(foreach m,direct tool,$(D)/eval/sft_$(m).json) $(D)/eval/fixed_shuffled.json
sizes := $(foreach k,$(scales),$(foreach m,$(modes),$(D)/eval/size$(k)_$(m).json))
pair := $(D)/eval/pair_sft.json $(D)/eval/pair_before.json $(D)/eval/pair_after.json

# The shards hold all that training reads. Only at the end, because for minutes after a large deletion ext4 creates files
# slowly (it looks for inodes that were not just freed).
all: $(runs) $(pair) $(forced) $(sizes) $(D)/leak.json
	@rm -rf $(D)/data/labels/img $(D)/data/sft/img $(D)/data/direct/img

# ---- data: an ordinary dataset (PNG files and JSONL), then shards that also hold what the model sees of each picture
$(D)/tokenizer.json: | $(D)/corpus/data.jsonl
	@$(job) tokenizer $(CD) data tokenizer $(D)/corpus/data.jsonl --merges 200 --out $@
$(D)/corpus/data.jsonl:
	@$(job) corpus $(CD) data synth --kind sft --n 3000 --seed 1 --split corpus --out $(D)/corpus
$(D)/model/config.json: | $(D)/tokenizer.json
	@$(job) init $(CD) init --config configs/demo_model.json --tokenizer $(D)/tokenizer.json \
		--min-pixels 7056 --max-pixels 7056 --resample 2 --out $(D)/model
$(D)/data/%/.done: | $(D)/model/config.json
	@$(job) data/$* launch/demo_data $(CD) $(D) $*
	@touch $@

# ---- training: train RUN CONFIG SEED FROM; resumes from its newest checkpoint
train = $(job) $(1) $(CD) train $(2) --resume --set run.dir=$(D)/$(1) --set run.seed=$(3) --set model.path=$(4) \
	--set device.threads=1 --set warmup.data=$(D)/data/labels/shards --set rl.data=$(D)/data/prompts/shards \
	--set eval.data=$(D)/data/eval/shards
data := $(D)/data/eval/.done
$(D)/seed%/sft/.done: | $(data) $(D)/data/labels/.done $(D)/data/sft/.done
	@$(call train,seed$*/sft,configs/demo.yaml,$*,$(D)/model) --set 'train.stages=[warmup, sft]' --set sft.data=$(D)/data/sft/shards
	@touch $@
$(D)/seed%/control/.done: | $(data) $(D)/data/labels/.done $(D)/data/direct/.done
	@$(call train,seed$*/control,configs/demo_control.yaml,$*,$(D)/model) --set sft.data=$(D)/data/direct/shards
	@touch $@
define arm
$(D)/seed%/$(1)/.done: $(D)/seed%/sft/.done | $(D)/data/prompts/.done
	@$$(call train,seed$$*/$(1),configs/demo_$(1).yaml,$$*,$(D)/seed$$*/sft/export)
	@touch $$@
endef
$(foreach a,$(arms),$(eval $(call arm,$(a))))
$(D)/seed%/pair/.done: $(D)/seed%/fixed/.done | $(D)/data/pair/.done
	@$(call train,seed$*/pair,configs/demo_pair.yaml,$*,$(D)/seed$*/fixed/export) --set rl.data=$(D)/data/pair/shards
	@touch $@

# ---- measuring: measure RUN DATA ARM STAGE [options]
measure = mkdir -p $(D)/eval && $(job) $(basename $(@F)) $(CD) eval --config configs/demo.yaml --model $(D)/seed$(first)/$(1)/export \
	--data $(D)/data/$(2)/shards --arm $(3) --stage $(4) --seed $(first) --set device.threads=1 --out $@
sft := $(D)/seed$(first)/sft/.done
fixed := $(D)/seed$(first)/fixed/.done
$(D)/eval/sft_direct.json $(D)/eval/sft_tool.json: $(D)/eval/sft_%.json: $(sft)
	@$(call measure,sft,eval,fixed,sft) --force $*
$(D)/eval/fixed_shuffled.json: $(fixed)
	@$(call measure,fixed,eval,shuffled,rl) --shuffle-tools
define size
$(D)/eval/size$(1)_%.json: $(fixed) | $(D)/data/eval_size$(1)/.done
	@$$(call measure,fixed,eval_size$(1),fixed,rl) --tile-scale $(1) $$(if $$(filter-out free,$$*),--force $$*)
endef
$(foreach k,$(scales),$(eval $(call size,$(k))))
$(D)/eval/pair_sft.json: $(sft) | $(D)/data/eval_pair/.done
	@$(call measure,sft,eval_pair,fixed,sft)
$(D)/eval/pair_before.json: $(fixed) | $(D)/data/eval_pair/.done
	@$(call measure,fixed,eval_pair,fixed,rl)
$(D)/eval/pair_after.json: $(D)/seed$(first)/pair/.done | $(D)/data/eval_pair/.done
	@$(call measure,pair,eval_pair,pair,rl)
$(D)/leak.json: | $(D)/model/config.json
	@$(job) leak $(CD) data leak --seed 1 --threads 1 --out $@
